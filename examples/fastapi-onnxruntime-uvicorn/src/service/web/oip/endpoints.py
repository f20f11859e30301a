"""The endpoints of the Open Inference Protocol V2."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import orjson

from service.core.engine import Engine
from service.core.errors import NotReady
from service.core.tensors import TensorSpec
from service.core.turns import Turns
from service.ops.settings import PREFIX as SETTINGS_PREFIX
from service.ops.settings import Settings
from service.web.asgi import JSON, Scope
from service.web.body import Bodies
from service.web.compression import Compressor, compress, preferred_encoding
from service.web.errors import Malformed, MethodNotAllowed, NotFound
from service.web.oip.codec import (
    InferRequest,
    InferResponse,
    decode_request,
    encode_response,
    fit_texts,
    select_outputs,
)
from service.web.request_cycle import RequestCycle
from service.web.service_info import service_info
from service.web.strict_json import ValueLimit

PREFIX: Final = "/v2"

_BELOW: Final = f"{PREFIX}/"
_MODEL_ROUTE: Final = "/v2/models/{name}"
_VERSION_ROUTE: Final = "/v2/models/{name}/versions/{version}"
_EXTENSIONS: Final = ["binary_tensor_data"]
_KEY_WEIGHT: Final = 9
"""Requests of the protocol have few keys; those with many cost more than their values."""
_COMPRESSIBLE_BYTES: Final = 1024
_STREAMED_BYTES: Final = 2**20
"""Larger responses are sent in pieces."""
_JSON_LENGTH: Final = b"inference-header-content-length"


class Endpoint(NamedTuple):
    """The endpoint of a path.

    ``route``: the template of the path, for metrics. ``action``: ``server``, ``live``, ``ready``,
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
    """Return whether a path belongs to the protocol."""
    return path.startswith(_BELOW) or path == PREFIX


@functools.lru_cache
def find(path: str) -> Endpoint:
    """Return the endpoint of a path below ``/v2``.

    Raises:
        NotFound: the protocol has no such path.
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
    """Answers the endpoints of the protocol with the model of an engine.

    ``bodies`` reads the requests, and ``turns`` has one large request at a time.
    """

    def __init__(self, settings: Settings, engine: Engine, bodies: Bodies, turns: Turns) -> None:
        self._settings: Final = settings
        self._engine: Final = engine
        self._bodies: Final = bodies
        self._turns: Final = turns
        self._values: Final = ValueLimit(
            settings.max_values,
            f"{SETTINGS_PREFIX}MAX_VALUES",
            "Send tensors as binary data, which may be larger.",
            key_weight=_KEY_WEIGHT,
        )

    async def __call__(
        self,
        endpoint: Endpoint,
        scope: Scope,
        headers: dict[bytes, bytes],
        cycle: RequestCycle,
    ) -> None:
        """Answer a request. ``headers``: those of the scope, by name.

        Raises:
            ServiceError: the request is not answered with success.
        """
        if scope["method"] != endpoint.method:
            raise MethodNotAllowed([endpoint.method])
        if endpoint.name and (self._engine.has_manifest or endpoint.action != "model_ready"):
            self._check_model(endpoint)
        match endpoint.action:
            case "infer":
                await self._infer(headers, cycle)
            case "metadata":
                await _respond(cycle, 200, self._metadata())
            case "server":
                info = service_info()
                server = {"name": info.title, "version": info.version, "extensions": _EXTENSIONS}
                await _respond(cycle, 200, server)
            case "live":
                await _respond(cycle, 200, {"live": True})
            case _:
                ready = self._engine.ready
                await _respond(cycle, 200 if ready else 503, {"live": True, "ready": ready})

    async def _infer(self, headers: dict[bytes, bytes], cycle: RequestCycle) -> None:
        request = await self._decode(headers, cycle)
        if request.timeout is not None:
            cycle.context.shorten(request.timeout)
        engine = self._engine
        outputs = select_outputs(request, engine.outputs)
        inputs = fit_texts(request.inputs, engine.inputs)
        tensors = await engine.infer(inputs, cycle.context)
        response = await encode_response(request.id, engine.model, tensors, outputs)
        response_headers = [JSON]
        if response.json_length is not None:
            response_headers = [
                (b"content-type", b"application/octet-stream"),
                (_JSON_LENGTH, str(response.json_length).encode("ascii")),
            ]
        accepted = headers.get(b"accept-encoding", b"")
        if response.size is None or response.size > _STREAMED_BYTES:
            await self._stream(response, response_headers, accepted, cycle)
            return
        body = b"".join(response.pieces)
        if len(body) >= _COMPRESSIBLE_BYTES:
            response_headers.append((b"vary", b"accept-encoding"))
            body, encoding = await compress(body, accepted)
            if encoding:
                response_headers.append((b"content-encoding", encoding))
        await cycle.respond(200, response_headers, body)

    async def _decode(self, headers: dict[bytes, bytes], cycle: RequestCycle) -> InferRequest:
        length = _json_length(headers)
        if length is None:
            body = await self._bodies.read(cycle, headers, self._bodies.json)
            length = len(body)
        else:
            body = await self._bodies.read(cycle, headers, self._bodies.any)
            if length > len(body):
                raise Malformed("Inference-Header-Content-Length is not within the body.")
            self._bodies.json.check(length)
        large = await self._values.check(body, length)
        if not large:
            return await decode_request(body, length, self._settings, large=False)
        async with self._turns.turn(cycle.context):
            return await decode_request(body, length, self._settings, large=True)

    async def _stream(
        self,
        response: InferResponse,
        headers: list[tuple[bytes, bytes]],
        accept_encoding: bytes,
        cycle: RequestCycle,
    ) -> None:
        """Send a large response while it is encoded, so that memory never holds all of it."""
        if response.size is None and cycle.http_version == "1.0":  # it has no body without a length
            pieces = [piece async for piece in self._paced(response)]
            response = InferResponse(iter(pieces), sum(map(len, pieces)), None)
            accept_encoding = b""
        headers.append((b"vary", b"accept-encoding"))
        encoding = preferred_encoding(accept_encoding)
        if encoding:
            headers.append((b"content-encoding", encoding))
        elif response.size is not None:
            headers.append((b"content-length", str(response.size).encode("ascii")))
        await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
        compressor = Compressor(encoding) if encoding else None
        async for piece in self._paced(response):
            if cycle.context.cancelled:
                return
            part = await compressor.add(piece) if compressor else piece
            await cycle.send({"type": "http.response.body", "body": part, "more_body": True})
        end = compressor.end() if compressor else b""
        await cycle.send({"type": "http.response.body", "body": end, "more_body": False})

    async def _paced(self, response: InferResponse) -> AsyncIterator[bytes]:
        """Yield the pieces of a response; to encode JSON, each waits for its turn."""
        while True:
            if response.size is not None:
                piece = next(response.pieces, b"")
            else:
                async with self._turns.turn():
                    piece = next(response.pieces, b"")
            if not piece:
                return
            yield piece

    def _check_model(self, endpoint: Endpoint) -> None:
        manifest = self._engine.manifest
        if endpoint.name != manifest.name:
            raise NotFound("There is no model with this name.")
        if endpoint.version not in (None, manifest.version):
            raise NotFound("There is no such version of this model.")

    def _metadata(self) -> dict[str, Any]:
        manifest = self._engine.manifest
        if not self._engine.max_batch_size:
            raise NotReady
        return {
            "name": manifest.name,
            "versions": [manifest.version],
            "platform": manifest.runtime,
            "inputs": _describe(self._engine.inputs),
            "outputs": _describe(self._engine.outputs),
            "parameters": {"max_batch_size": self._engine.max_batch_size},
        }


async def _respond(cycle: RequestCycle, status: int, document: dict[str, Any]) -> None:
    await cycle.respond(status, [JSON], orjson.dumps(document))


def _describe(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _json_length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(_JSON_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Malformed("Inference-Header-Content-Length must be a number of bytes.")
    return int(value)
