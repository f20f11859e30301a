"""The endpoints of the Open Inference Protocol V2, as a small ASGI application."""

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from service.about import about
from service.config import Settings
from service.engine import Engine
from service.errors import Headers, Malformed, MethodNotAllowed, NotFound
from service.http import JSON, Receive, Scope, Send, respond
from service.open_inference import decode_request, encode_response, select_outputs
from service.payload import compress, read_body
from service.tensors import TensorSpec

PREFIX: Final = "/v2"

_MODEL_ROUTE: Final = "/v2/models/{name}"
_VERSION_ROUTE: Final = "/v2/models/{name}/versions/{version}"
_EXTENSIONS: Final = ["binary_tensor_data"]
_COMPRESSIBLE_BYTES: Final = 1024
_JSON_LENGTH: Final = b"inference-header-content-length"


class Endpoint(NamedTuple):
    """What a path of the protocol names.

    ``route``: the path's template, for metrics. ``action``: ``server``, ``live``, ``ready``,
    ``metadata``, ``model_ready`` or ``infer``.
    """

    route: str
    action: str
    name: str = ""
    version: str | None = None

    @property
    def method(self) -> str:
        return "POST" if self.action == "infer" else "GET"


def owns(path: str) -> bool:
    """Tell whether a path is the protocol's to answer."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


@functools.lru_cache
def find(path: str) -> Endpoint:
    """Find the endpoint of a path below ``/v2``.

    Raises:
        NotFound: there is none.
    """
    match path.split("/")[2:]:
        case []:
            return Endpoint(PREFIX, "server")
        case ["health", ("live" | "ready") as action]:
            return Endpoint(f"{PREFIX}/health/{action}", action)
        case ["models", name, "versions", version, *rest] if name and version:
            return _model_endpoint(_VERSION_ROUTE, name, version, rest)
        case ["models", name, *rest] if name:
            return _model_endpoint(_MODEL_ROUTE, name, None, rest)
    raise NotFound


def _model_endpoint(route: str, name: str, version: str | None, rest: list[str]) -> Endpoint:
    match rest:
        case []:
            return Endpoint(route, "metadata", name, version)
        case ["ready"]:
            return Endpoint(f"{route}/ready", "model_ready", name, version)
        case ["infer"]:
            return Endpoint(f"{route}/infer", "infer", name, version)
    raise NotFound


class Protocol:
    """Answers the protocol's endpoints with the engine's model."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings: Final = settings
        self._engine: Final = engine

    async def __call__(
        self,
        endpoint: Endpoint,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request. ``headers``: those of the scope, by name.

        Raises:
            ServiceError: whatever the answer is, if it is no success.
        """
        if scope["method"] != endpoint.method:
            raise MethodNotAllowed([endpoint.method])
        if endpoint.name and (self._engine.has_manifest or endpoint.action != "model_ready"):
            self._check_model(endpoint)
        match endpoint.action:
            case "infer":
                await self._infer(headers, receive, send)
            case "metadata":
                await self._answer(send, 200, self._metadata())
            case "server":
                server = {"name": about().title, "version": about().version}
                await self._answer(send, 200, {**server, "extensions": _EXTENSIONS})
            case "live":
                await self._answer(send, 200, {"live": True})
            case _:
                ready = self._engine.ready
                await self._answer(send, 200 if ready else 503, {"live": True, "ready": ready})

    async def _infer(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        body = await read_body(receive, headers, self._settings.max_body_bytes)
        request = decode_request(body, _json_length(headers), self._settings)
        engine = self._engine
        outputs = select_outputs(request, engine.outputs)
        tensors = await engine.infer(request.inputs, request.timeout)
        model = engine.manifest.name, engine.manifest.version
        response = encode_response(request.id, model, tensors, outputs)
        answer_headers: Headers = [JSON]
        if response.json_length is not None:
            answer_headers = [
                (b"content-type", b"application/octet-stream"),
                (_JSON_LENGTH, str(response.json_length).encode("ascii")),
            ]
        body = response.body
        if len(body) >= _COMPRESSIBLE_BYTES:
            answer_headers.append((b"vary", b"accept-encoding"))
            body, encoding = await compress(body, headers.get(b"accept-encoding", b""))
            if encoding:
                answer_headers.append((b"content-encoding", encoding))
        await respond(send, 200, answer_headers, body)

    def _check_model(self, endpoint: Endpoint) -> None:
        manifest = self._engine.manifest
        if endpoint.name != manifest.name:
            raise NotFound("There is no model of this name.")
        if endpoint.version not in (None, manifest.version):
            raise NotFound("There is no such version of this model.")

    def _metadata(self) -> dict[str, Any]:
        manifest = self._engine.manifest
        return {
            "name": manifest.name,
            "versions": [manifest.version],
            "platform": manifest.runtime,
            "inputs": _describe(self._engine.inputs),
            "outputs": _describe(self._engine.outputs),
            "parameters": {"max_batch_rows": self._engine.max_rows},
        }

    async def _answer(self, send: Send, status: int, document: dict[str, Any]) -> None:
        await respond(send, status, [JSON], orjson.dumps(document))


def _describe(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _json_length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(_JSON_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Malformed("Inference-Header-Content-Length must be a number of bytes.")
    return int(value)
