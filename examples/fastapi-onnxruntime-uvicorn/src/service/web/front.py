"""The ASGI application that servers run. It stands before the web framework.

What must be the same with every framework happens here: limits, API keys, deadlines, strict JSON,
request ids, metrics, access logs and drain. It also answers the Open Inference Protocol, so that
tensors never pass through a framework.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from service.core.engine import Engine
from service.core.errors import ServiceError
from service.core.manifest import ArtifactError
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.core.resources import Resources
from service.core.turns import pause
from service.core.uploads import kinds_of_files, set_aside
from service.ops import metrics, process
from service.ops.logs import RequestIdentity, current_request
from service.ops.settings import PREFIX, Settings
from service.web import docs, predict_schema
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
from service.web.forms import Forms
from service.web.oip import endpoints as oip
from service.web.openai import embeddings
from service.web.openai.schemas import is_embedding
from service.web.openapi import document as openapi
from service.web.path_prefix import PathPrefix, restore
from service.web.predict_schema import PredictRequest, PredictResponse
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

    ``request`` and ``response``: the schemas of /predict.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        predictor: Predictor[Any, Any],
        resources: Resources,
        framework: "Framework",
        request: type[PredictRequest[Any]],
        response: type[PredictResponse[Any]],
    ) -> None:
        self._settings: Final = settings
        self.engine: Final = engine
        self._predictor: Final = predictor
        self._resources: Final = resources
        self._framework: Final = framework
        self._schemas: Final = (request, response)
        self._bodies: Final = Bodies(settings)
        self._turns: Final = predictor.turns
        self._oip: Final = oip.Protocol(settings, engine, self._bodies, self._turns)
        self._values: Final = ValueLimit(
            settings.max_predict_values,
            f"{PREFIX}MAX_PREDICT_VALUES",
            "Send fewer at a time, or binary tensors to /v2, which may be larger.",
        )
        self._embeddings: Final = embeddings.Embeddings(
            engine, self._bodies, self._values, self._turns
        )
        instance = predict_schema.instance_type(request)
        takes_files = settings.predict_endpoint and kinds_of_files(instance)
        self._forms: Final = Forms(instance, settings, self._values) if takes_files else None
        self._predict_json: Final = (
            self._bodies.json_limit("Files may be larger in a form, multipart/form-data.")
            if self._forms
            else self._bodies.json
        )
        self._keys: Final = ApiKeys(settings.api_keys)
        self._prefix: Final = PathPrefix(settings.root_path)
        origins, credentials = settings.cors_origins, settings.cors_credentials
        self._cors: Final = Cors(origins, credentials=credentials) if origins else None
        self._to_docs: Final = frozenset(
            path for path in docs.ALIASES if settings.docs and not framework.has_route(path)
        )
        self._openapi: Final = dict[str, bytes]()
        """By prefix."""
        self._state: dict[str, Any] = {"engine": engine, "predictor": predictor}
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
            async with self._framework.lifespan() as state:
                self._state = {
                    **(state or {}),
                    "engine": self.engine,
                    "predictor": self._predictor,
                }
                tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._tick())]
                await send({"type": "lifespan.startup.complete"})
                await receive()
                stage = "shutdown"
                for task in tasks:
                    task.cancel()
                await self.engine.close()
                await self._resources.close()
                self._publish_metrics()
        except Exception as error:
            log.exception("the lifespan of the application failed at %s", stage)
            process.fail(f"the lifespan of the application failed at {stage}: {error}")
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        """Make the engine ready while probes are answered already. If it fails, end the service."""
        examples_for = self._predictor.examples_for if self._settings.predict_endpoint else None
        try:
            if self._forms:
                self._forms.check_libraries()
            await self._resources.open()
            await self.engine.start(examples_for)
        except (ArtifactError, ServiceError, process.CannotStart) as error:
            process.fail(str(error))
        except Exception as error:
            log.exception("the model could not be loaded")
            process.fail(f"the model could not be loaded: {error}")

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
        if not scope["path"].startswith("/"):  # gunicorn and hypercorn leave the absolute form
            scope = _origin_form(scope)
        scope = self._prefix.remove(scope)
        path = scope["path"]
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
            has_body=b"transfer-encoding" in headers
            or headers.get(b"content-length", b"0") != b"0",
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
            metrics.record_answer(method, cycle.route, cycle.status, seconds)
            self._log_access(method, path, cycle, seconds)

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
        elif _is_predict(path):
            await self._answer_predict(cycle, scope, headers)
        else:
            await self._answer_own_route(cycle, scope, headers)

    async def _answer_oip(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        endpoint = oip.find(scope["path"])
        cycle.route = endpoint.route
        if endpoint.action == "infer":
            self._keys.check(headers)
            self._apply_request_timeout(cycle.context, headers)
        await self._oip(endpoint, scope, headers, cycle)

    async def _answer_predict(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        self._keys.check(headers)
        # Some routers also find /predict at /predict/ and at //predict.
        if not self._settings.predict_endpoint or scope["path"] != predict_schema.PATH:
            raise NotFound
        cycle.route = predict_schema.PATH
        if scope["method"] != "POST":
            raise MethodNotAllowed(["POST"])
        content_type = _content_type(scope)
        has_json = is_json(content_type)
        if not has_json:
            if not self._forms:
                raise UnsupportedMediaType("The body must be application/json.")
            self._forms.check_content_type(content_type)
        self._apply_request_timeout(cycle.context, headers)
        limit = self._predict_json if has_json else self._bodies.any
        body = await self._bodies.read(cycle, headers, limit)
        if not body:
            raise Malformed("The body is empty.")
        if has_json or not self._forms:
            await self._check_and_call(cycle, scope, body, is_predict=True)
            return
        body, files = await self._forms.read(
            body, content_type, self._max_instances, self._turns.turn(cycle.context, at_once=True)
        )
        with set_aside(files):
            await self._check_and_call(cycle, _with_json(scope, body), body, is_predict=True)

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
        if not is_json(_content_type(scope)):
            raise UnsupportedMediaType("The body must be application/json.")
        self._apply_request_timeout(cycle.context, headers)
        await self._embeddings(headers, cycle, self._max_instances)

    async def _answer_own_route(
        self, cycle: RequestCycle, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        self._keys.check(headers)
        has_json = is_json(_content_type(scope))
        body = await self._bodies.read(
            cycle, headers, self._bodies.json if has_json else self._bodies.any
        )
        try:
            if body and has_json:
                await self._check_and_call(cycle, scope, body, is_predict=False)
            else:
                await self._call_framework(cycle, scope, body)
        finally:
            cycle.route = self._framework.route_template(scope) or cycle.route

    async def _check_and_call(
        self, cycle: RequestCycle, scope: Scope, body: bytes, *, is_predict: bool
    ) -> None:
        """Check JSON and give it to the framework, a large one in its turn."""
        max_instances = self._max_instances if is_predict else None
        if not await self._values.check(body, len(body)):
            check_json(body, max_instances)
            await self._call_framework(cycle, scope, body)
            return
        cycle.context.large = True
        async with self._turns.turn(cycle.context):
            document = check_json(body, max_instances)
            await pause()
            if is_predict and self._forms:
                shorter, files = await self._forms.set_aside(document)
                del document
                if files:
                    if not await self._values.check(shorter, len(shorter)):
                        cycle.context.large = False
                        self._turns.end(cycle.context)
                    with set_aside(files):
                        await self._call_framework(cycle, _with_json(scope, shorter), shorter)
                    return
            await self._call_framework(
                cycle, scope, body, None if is_predict else self._end_turn_soon
            )

    @property
    def _max_instances(self) -> int:
        """The largest number of instances; those that share a batch must fit the queue together."""
        limit = self._settings.max_instances
        return min(limit, self._settings.max_queue_size) if self.engine.batched else limit

    def _end_turn_soon(self, context: RequestContext) -> None:
        """End the turn of a request to an owner's route, which may wait for anything once it runs.

        Frameworks receive, parse and validate without a pause, so that the next step of the event
        loop finds that done. The predictor ends the turn of a request to /predict.
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
        return openapi.document(self._settings, theirs, *self._schemas, root_path=root_path)

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


def _is_predict(path: str) -> bool:
    return path == predict_schema.PATH or path.replace("/", "") == predict_schema.PATH[1:]


def _content_type(scope: Scope) -> bytes:
    """Return the content type of the body of a request, nothing if it is not given.

    Raises:
        Malformed: it has several; a framework might read another than this.
    """
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if len(types) > 1:
        raise Malformed("A request may have one Content-Type.")
    return types[0] if types else b""


def _with_json(scope: Scope, body: bytes) -> Scope:
    """Return the scope of a request whose body is this JSON instead."""
    replaced = (b"content-type", b"content-length", b"transfer-encoding")
    headers = [header for header in scope["headers"] if header[0] not in replaced]
    length = (b"content-length", str(len(body)).encode("ascii"))
    return {**scope, "headers": [*headers, JSON, length]}


def _origin_form(scope: Scope) -> Scope:
    """Take scheme and authority from the path, where the target of the request has them."""
    path = _ABSOLUTE_FORM.sub("", scope["path"], count=1) or "/"
    raw_path = _ABSOLUTE_FORM.sub("", scope.get("raw_path", b"").decode("latin-1"), count=1) or "/"
    return {**scope, "path": path, "raw_path": raw_path.encode("latin-1")}


def _allow_get(scope: Scope) -> None:
    if scope["method"] != "GET":
        raise MethodNotAllowed(["GET"])
