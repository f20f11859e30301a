"""The ASGI application that servers run. It stands before the web framework.

What must be the same with every framework happens here: limits, API keys, deadlines, strict JSON,
request ids, metrics, access logs and drain. It also answers the Open Inference Protocol, so that
tensors never pass through a framework.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from service.core.engine import Engine
from service.core.errors import ServiceError
from service.core.examples import Examples
from service.core.manifest import ArtifactError
from service.core.request_context import RequestContext
from service.core.tensors import TensorSpec
from service.core.turns import Turns, pause
from service.ops import metrics, process
from service.ops.logs import RequestIdentity, current_request
from service.ops.metrics_server import metrics_server
from service.ops.settings import PREFIX, Settings
from service.web import docs
from service.web.api_keys import ApiKeys
from service.web.asgi import JSON, Receive, Scope, Send
from service.web.body import Bodies
from service.web.cors import Cors, is_preflight, without_cors_headers
from service.web.errors import (
    InternalError,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooManyHeaders,
    Unauthorized,
    UnsupportedMediaType,
    openai_error,
    problem,
    protocol_error,
)
from service.web.further_paths import ASKED, READY, further_paths
from service.web.oip import endpoints as oip
from service.web.openai import embeddings
from service.web.openai.schemas import is_embedding
from service.web.openapi import document as openapi
from service.web.openapi.document import Description
from service.web.path_prefix import PathPrefix, restore
from service.web.proxies import Proxies
from service.web.request_cycle import RequestCycle
from service.web.request_ids import request_id, trace_id
from service.web.strict_json import ValueLimit, check_json, is_json

if TYPE_CHECKING:
    from service.interfaces import Framework

log = logging.getLogger("service.front")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_ABSOLUTE_FORM: Final = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_MAX_HEADERS: Final = 100
"""What granian and gunicorn allow; the other servers have no limit."""
_TICK: Final = 0.05
"""Seconds between two checks of the requests in flight."""
_NUMBER: Final = re.compile(rb"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


class Front:
    """The ASGI application around one engine and one framework.

    ``turns``: for requests that take long to parse and convert. ``texts``: converts texts for an
    embedding that does not take them itself.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        framework: "Framework",
        turns: Turns,
        texts: embeddings.TextConverter | None = None,
    ) -> None:
        self._settings: Final = settings
        self.engine: Final = engine
        self._framework: Final = framework
        self._bodies: Final = Bodies(settings)
        self._turns: Final = turns
        self._oip: Final = oip.Protocol(settings, engine, self._bodies, self._turns)
        self._values: Final = ValueLimit(
            settings.max_predict_values,
            f"{PREFIX}MAX_PREDICT_VALUES",
            "Send fewer at a time, or binary tensors to /v2, which may be larger.",
        )
        self._embeddings: Final = embeddings.Embeddings(
            engine,
            self._bodies,
            self._values,
            self._turns,
            texts,
        )
        self._keys: Final = ApiKeys(settings.api_keys)
        self._prefix: Final = PathPrefix(settings.root_path)
        self._proxies: Final = (
            Proxies(settings.trusted_proxies) if settings.trusted_proxies else None
        )
        self._further: Final = further_paths(settings, self._is_owners)
        origins, credentials = settings.cors_origins, settings.cors_credentials
        self._cors: Final = Cors(origins, credentials=credentials) if origins else None
        self._to_docs: Final = frozenset(
            path for path in docs.ALIASES if settings.docs and not framework.has_route(path)
        )
        self._openapi: Final = dict[str, bytes]()
        """By prefix."""
        self._offered: Final[dict[str, Any]] = {"engine": engine}
        """What handlers find in the state of a request, besides what the lifespan yields."""
        self._state: Mapping[str, Any] = self._offered
        self._in_flight: Final = dict[RequestCycle, None]()
        """In the order of arrival."""
        self._draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                await self._websocket(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            with metrics_server(self._settings):
                async with self._framework.lifespan() as state:
                    self._state = {**(state or {}), **self._offered}
                    tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._tick())]
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    stage = "shutdown"
                    for task in tasks:
                        task.cancel()
                    await self._close()
                    self._publish_metrics()
        except Exception as error:
            log.exception("the lifespan of the application failed at %s", stage)
            process.fail(f"the lifespan of the application failed at {stage}: {error}")
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        """Make the engine ready while probes are answered already. If it fails, end the service."""
        try:
            await self._open()
        except (ArtifactError, ServiceError, process.CannotStart) as error:
            process.fail(str(error))
        except Exception as error:
            log.exception("the model could not be loaded")
            process.fail(f"the model could not be loaded: {error}")

    async def _open(self) -> None:
        """Load the model."""
        await self.engine.start(self._examples_for)

    async def _examples_for(self, inputs: Sequence[TensorSpec]) -> Examples | None:
        """Check that the service fits the model, and return examples of its inputs, if any."""
        self._embeddings.check()
        return None

    async def _close(self) -> None:
        """Finish what was accepted."""
        await self.engine.close()

    async def _tick(self) -> None:
        """Publish metrics, notice a drain, and check what takes longer than a tick."""
        while True:
            await asyncio.sleep(_TICK)
            self._draining = process.draining()
            self._publish_metrics()
            self.engine.check()
            now = time.monotonic()
            for cycle in tuple(self._in_flight):
                if now - cycle.context.arrival < _TICK:
                    break
                cycle.check()

    def _publish_metrics(self) -> None:
        metrics.publish(len(self._in_flight), self.engine.queued_rows)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if self._proxies:
            scope = self._proxies.apply(scope)
        if not scope["path"].startswith("/"):  # gunicorn and hypercorn leave the absolute form
            scope = _origin_form(scope)
        scope = self._prefix.remove(scope)
        asked = path = scope["path"]
        if path in self._further and (target := self._target(path)):
            path = target
            scope = {**scope, "path": path, "raw_path": path.encode(), ASKED: asked}
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        context = RequestContext(
            self._settings.request_timeout, request_id(headers), trace_id(headers)
        )
        current_request.set(RequestIdentity(context.request_id, context.trace_id))
        cycle = RequestCycle(
            context,
            receive,
            send,
            is_head=method == "HEAD",
            http_version=scope["http_version"],
            length=_body_length(headers),
            draining=lambda: self._draining,
        )
        if self._cors:
            cycle.add_headers(self._cors.headers(headers))
        if oip.owns(path):
            render = protocol_error
        else:
            render = openai_error if self._is_of_openai(path) else problem
        self._in_flight[cycle] = None
        if method == "HEAD":  # answered like GET; the cycle leaves out the body
            scope = {**scope, "method": "GET"}
        try:
            await self._answer(cycle, scope, headers)
        except ServiceError as error:
            await cycle.reject(error, render)
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException:  # SystemExit or a panic of Rust would end the event loop
            log.exception("unexpected error")
            await cycle.reject(InternalError(), render)
        finally:
            cycle.close()
            self._bodies.release(cycle)
            del self._in_flight[cycle]
            seconds = cycle.seconds
            metrics.record_answer(
                method, cycle.route, cycle.status, seconds, cycle.received, cycle.sent
            )
            self._log_access(method, asked, cycle, seconds)

    def _is_owners(self, path: str) -> bool:
        """Return whether the owner has a route there."""
        return self._framework.has_route(path)

    def _target(self, path: str) -> str:
        """Return the path that a further one stands for, nothing if it is none."""
        if not path:
            return ""
        return READY if path == self._further.health else self._predictions()

    def _predictions(self) -> str:
        """Return the path that the one for predictions stands for: here it infers."""
        model = self.engine.manifest.name if self.engine.has_manifest else "model"
        return f"{oip.PREFIX}/models/{model}/infer"

    async def _answer(self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if len(scope["headers"]) > _MAX_HEADERS:
            raise TooManyHeaders(f"A request may have up to {_MAX_HEADERS} headers.")
        if b"transfer-encoding" in headers and b"content-length" in headers:
            cycle.close_connection()  # another request may be hidden in what follows
            raise Malformed("A request may not have both Transfer-Encoding and Content-Length.")
        path: str = scope["path"]
        if not path.isprintable():  # routers that match up to "$" accept a trailing line feed
            raise NotFound
        if self._cors and is_preflight(scope["method"], headers):
            cycle.route = "preflight"
            await cycle.respond(200, self._cors.preflight(headers), b"")
        elif oip.owns(path):
            await self._answer_oip(cycle, scope, headers)
        elif path == "/metrics":
            if self._settings.metrics_port:
                raise NotFound
            cycle.route = path
            _allow_get(scope)
            self._publish_metrics()
            content_type = metrics.CONTENT_TYPE.encode("ascii")
            page = await metrics.render()
            await cycle.respond(200, [(b"content-type", content_type)], page)
        elif self._settings.docs and path == openapi.PATH:
            cycle.route = path
            _allow_get(scope)
            document = self._openapi_document(scope.get("root_path", ""))
            await cycle.respond(200, [JSON], document)
        elif self._settings.docs and (page_file := docs.FILES.get(path)):
            cycle.route = path
            _allow_get(scope)
            await cycle.respond(200, *page_file)
        elif path in self._to_docs:
            cycle.route = path
            _allow_get(scope)
            location = scope.get("root_path", "") + docs.PATH
            await cycle.respond(307, [(b"location", location.encode("latin-1"))], b"")
        elif self._is_of_openai(path):
            await self._answer_embeddings(cycle, scope, headers)
        else:
            await self._answer_by_framework(cycle, scope, headers)

    async def _answer_oip(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        endpoint = oip.find(scope["path"])
        cycle.route = endpoint.route
        if endpoint.action == "infer":
            self._keys.check(headers)
            self._apply_request_timeout(cycle.context, headers)
        await self._oip(endpoint, scope, headers, cycle)

    def _is_of_openai(self, path: str) -> bool:
        """Return whether a path belongs to OpenAI's API. The owner's routes come first."""
        if not path.startswith(embeddings.PREFIX) or self._framework.has_route(path):
            return False
        if self.engine.has_manifest:
            return is_embedding(self.engine.manifest)
        return path == embeddings.PATH  # not known yet: the answer is that the model is not ready

    async def _answer_embeddings(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        self._keys.check(headers)
        if scope["path"] != embeddings.PATH:
            raise NotFound
        cycle.route = embeddings.PATH
        if scope["method"] != "POST":
            raise MethodNotAllowed(["POST"])
        if not is_json(content_type(scope)):
            raise UnsupportedMediaType("The body must be application/json.")
        self._apply_request_timeout(cycle.context, headers)
        await self._embeddings(headers, cycle, self._max_instances)

    async def _answer_by_framework(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        self._keys.check(headers)
        has_json = is_json(content_type(scope))
        body = await self._bodies.read(
            cycle, headers, self._bodies.json if has_json else self._bodies.any
        )
        try:
            if body and has_json:
                await self._check_and_call(cycle, scope, body)
            else:
                await self._call_framework(cycle, scope, body)
        finally:
            cycle.route = self._framework.route_template(scope) or cycle.route

    async def _check_and_call(self, cycle: RequestCycle, scope: Scope, body: bytes) -> None:
        """Check JSON and give it to the framework, a large one in its turn."""
        if not await self._values.check(body, len(body)):
            check_json(body)
            await self._call_framework(cycle, scope, body)
            return
        cycle.context.large = True
        async with self._turns.turn(cycle.context):
            check_json(body)
            await pause()
            await self._call_framework(cycle, scope, body, self._end_turn_soon)

    @property
    def _max_instances(self) -> int:
        """The largest number of instances; those that share a batch must fit the queue together."""
        limit = self._settings.max_instances
        return min(limit, self._settings.max_queue_size) if self.engine.batched else limit

    def _end_turn_soon(self, context: RequestContext) -> None:
        """End the turn of a request to an owner's route, which may wait for anything once it runs.

        Frameworks receive, parse and validate without a pause, so that the next step of the event
        loop finds that done.
        """
        asyncio.get_running_loop().call_soon(self._turns.end, context)

    async def _call_framework(
        self,
        cycle: RequestCycle,
        scope: Scope,
        body: bytes,
        on_received: Callable[[RequestContext], None] | None = None,
    ) -> None:
        cycle.replay(body, on_received)
        scope["headers"] = [
            header for header in scope["headers"] if header[0] != b"content-encoding"
        ]
        scope["state"] = {**scope.get("state", {}), **self._state, "context": cycle.context}
        restore(scope)
        send = without_cors_headers(cycle.send) if self._cors else cycle.send
        await self._framework.app(scope, cycle.receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._keys.check(dict(scope["headers"]))
        except Unauthorized:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if self._proxies:
            scope = self._proxies.apply(scope)
        if not scope["path"].startswith("/"):
            scope = _origin_form(scope)
        scope = self._prefix.remove(scope)
        scope["state"] = {**scope.get("state", {}), **self._state}
        restore(scope)
        await self._framework.app(scope, receive, send)

    def _apply_request_timeout(self, context: RequestContext, headers: dict[bytes, bytes]) -> None:
        """Shorten the deadline to the seconds after arrival that ``Request-Timeout`` gives."""
        given = headers.get(b"request-timeout")
        if given is None:
            return
        seconds = float(given) if _NUMBER.fullmatch(given) else 0.0
        if not seconds:
            raise Malformed("Request-Timeout must be a number of seconds above zero.")
        context.shorten(seconds)

    def _openapi_document(self, root_path: str) -> bytes:
        if root_path not in self._openapi:
            self._openapi[root_path] = orjson.dumps(self.openapi(root_path))
        return self._openapi[root_path]

    def openapi(self, root_path: str | None = None) -> dict[str, Any]:
        """Return the OpenAPI document of the whole service.

        ``root_path``: the prefix that clients see, None for that of the settings.
        """
        if root_path is None:
            root_path = self._settings.root_path
        theirs = self._framework.openapi()
        return openapi.document(theirs, self._description(), root_path=root_path)

    def _description(self) -> Description:
        """Describe what the service has besides the owner's routes."""
        return Description(self._settings, self._further)

    def _log_access(self, method: str, path: str, cycle: RequestCycle, seconds: float) -> None:
        wanted = self._settings.access_log
        # A 503 is counted, not logged: under overload the lines would slow down everyone else.
        failed = cycle.status >= 500 and cycle.status != 503
        is_problem = failed or seconds >= self._settings.slow_request
        if wanted == "off" or (wanted == "problems" and not is_problem):
            return
        path = path if path.isprintable() else repr(path)
        log.log(
            logging.WARNING if is_problem else logging.INFO,
            "%s %s %d",
            method,
            path,
            cycle.status,
            extra={
                "method": method,
                "path": path,
                "route": cycle.route,
                "status": cycle.status,
                "duration_seconds": round(seconds, 6),
            },
        )


def _body_length(headers: dict[bytes, bytes]) -> int | None:
    """Return how many bytes of a body a request announces, None if it does not tell."""
    if b"transfer-encoding" in headers:
        return None
    declared = headers.get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else None


def content_type(scope: Scope) -> bytes:
    """Return the content type of the body of a request, nothing if it is not given.

    Raises:
        Malformed: it has several; a framework might read another than this.
    """
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if len(types) > 1:
        raise Malformed("A request may have one Content-Type.")
    return types[0] if types else b""


def _origin_form(scope: Scope) -> Scope:
    """Take scheme and authority from the path, where the target of the request has them."""
    path = _ABSOLUTE_FORM.sub("", scope["path"], count=1) or "/"
    raw_path = _ABSOLUTE_FORM.sub("", scope.get("raw_path", b"").decode("latin-1"), count=1) or "/"
    return {**scope, "path": path, "raw_path": raw_path.encode("latin-1")}


def _allow_get(scope: Scope) -> None:
    if scope["method"] != "GET":
        raise MethodNotAllowed(["GET"])
