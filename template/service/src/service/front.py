"""The application that servers run: lifespan, limits, telemetry, and who answers which path.

It stands before the web framework, so that tensors never pass through it and the protocol is the
same whichever it is.
"""

import asyncio
import hmac
import logging
import re
import time
from typing import Final

import orjson

from service import app as framework
from service import docs, openapi, process, protocol, telemetry, typed
from service.config import Settings
from service.engine import Engine
from service.errors import (
    InternalError,
    Malformed,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    Unauthorized,
    UnsupportedMediaType,
)
from service.exchange import Exchange
from service.http import JSON, Receive, Scope, Send, respond
from service.manifest import ArtifactError
from service.payload import read_body
from service.protocol import Protocol

log = logging.getLogger("service.front")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_TICK: Final = 0.05
"""Seconds between two looks at whether the service drains and at what is in flight."""
_DECIMAL: Final = re.compile(rb"[0-9]+(\.[0-9]+)?")


class Front:
    """An ASGI application around one engine."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings: Final = settings
        self._engine: Final = engine
        self._protocol: Final = Protocol(settings, engine)
        self._keys: Final = [key.get_secret_value().encode() for key in settings.api_keys]
        self._openapi: bytes | None = None
        self._in_flight: Final = dict[Exchange, float]()
        """Since when, by the event loop's clock; the oldest is the first."""
        self._draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                await self._websocket(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._authorize(dict(scope["headers"]))
        except Unauthorized:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await framework.app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with framework.lifespan():
                tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._watch())]
                await send({"type": "lifespan.startup.complete"})
                await receive()
                stage = "shutdown"
                for task in tasks:
                    task.cancel()
                await self._engine.close()
                self._publish_metrics()
        except Exception as error:
            log.exception("the hooks of the application failed at %s", stage)
            process.fail(f"the hooks of the application failed at {stage}: {error}")
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        """Make the engine ready while the probes are answered already, or end the service."""
        try:
            check = typed.check_model if self._settings.typed_endpoint else None
            await self._engine.start(check)
        except (ArtifactError, ServiceError) as error:
            process.fail(str(error))
        except Exception as error:
            log.exception("the model could not be loaded")
            process.fail(f"the model could not be loaded: {error}")

    async def _watch(self) -> None:
        """Look after what takes longer than a tick, and after what is the same for everyone.

        When the service drains, clients are told not to reuse their connections.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK)
            self._draining = process.draining()
            self._publish_metrics()
            now = loop.time()
            for exchange, since in tuple(self._in_flight.items()):
                if now - since < _TICK:
                    break
                exchange.look_after(now)

    def _publish_metrics(self) -> None:
        telemetry.publish(len(self._in_flight), self._engine.queued_rows)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        arrival = asyncio.get_running_loop().time()
        headers = dict(scope["headers"])
        request = telemetry.begin(
            headers.get(b"x-request-id", b""),
            headers.get(b"traceparent", b""),
            arrival + self._settings.deadline,
        )
        exchange = Exchange(
            request,
            receive,
            send,
            closing=lambda: self._draining and scope["http_version"].startswith("1"),
        )
        self._in_flight[exchange] = arrival
        try:
            await self._answer(exchange, scope, headers)
        except ServiceError as error:
            await exchange.refuse(error, scope["path"])
        except Exception:
            log.exception("unexpected error")
            await exchange.refuse(InternalError(), scope["path"])
        finally:
            exchange.close()
            del self._in_flight[exchange]
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            telemetry.record_answer(method, exchange.route, exchange.status, seconds)
            self._log_access(method, scope["path"], exchange, seconds)

    async def _answer(self, exchange: Exchange, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path: str = scope["path"]
        if not path.isprintable():  # routers that match up to "$" let a line feed through
            raise NotFound
        if protocol.owns(path):
            endpoint = protocol.find(path)
            exchange.route = endpoint.route
            if endpoint.action == "infer":
                self._authorize(headers)
                self._shorten_deadline(exchange.request, headers)
            await self._protocol(endpoint, scope, headers, exchange.receive, exchange.send)
        elif path == "/metrics":
            exchange.route = path
            _only_get(scope)
            content_type = telemetry.METRICS_CONTENT_TYPE.encode("ascii")
            self._publish_metrics()
            page = await telemetry.metrics_page()
            await respond(exchange.send, 200, [(b"content-type", content_type)], page)
        elif self._settings.docs and path == openapi.PATH:
            exchange.route = path
            _only_get(scope)
            await respond(exchange.send, 200, [JSON], self._openapi_document())
        elif self._settings.docs and (page_file := docs.FILES.get(path)):
            exchange.route = path
            _only_get(scope)
            await respond(exchange.send, 200, *page_file)
        else:
            self._authorize(headers)
            await self._framework(exchange, scope, headers)

    async def _framework(
        self, exchange: Exchange, scope: Scope, headers: dict[bytes, bytes]
    ) -> None:
        is_typed = scope["path"] == typed.PATH
        if is_typed:
            self._check_typed(exchange, scope["method"], headers)
            self._shorten_deadline(exchange.request, headers)
        limit = self._settings.max_body_bytes
        body = await read_body(exchange.receive, headers, limit)
        if is_typed and not body:
            raise Malformed("The body is empty.")
        exchange.replay(body)
        scope["headers"] = [
            header for header in scope["headers"] if header[0] != b"content-encoding"
        ]
        scope["state"] = {
            **scope.get("state", {}),
            "engine": self._engine,
            "settings": self._settings,
        }
        try:
            await framework.app(scope, exchange.receive, exchange.send)
        finally:
            if not is_typed:
                exchange.route = framework.route_template(scope) or exchange.route

    def _check_typed(self, exchange: Exchange, method: str, headers: dict[bytes, bytes]) -> None:
        if not self._settings.typed_endpoint:
            raise NotFound
        exchange.route = typed.PATH
        if method != "POST":
            raise MethodNotAllowed(["POST"])
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != b"application/json" and not media_type.endswith(b"+json"):
            raise UnsupportedMediaType("The body must be application/json.")

    def _authorize(self, headers: dict[bytes, bytes]) -> None:
        if not self._keys:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(matches):
            raise Unauthorized

    def _shorten_deadline(self, request: telemetry.Request, headers: dict[bytes, bytes]) -> None:
        """Bring the deadline forward to the seconds after arrival that ``Request-Timeout`` says."""
        given = headers.get(b"request-timeout")
        if given is None:
            return
        seconds = float(given) if _DECIMAL.fullmatch(given) else 0.0
        if not seconds:
            raise Malformed("Request-Timeout must be a decimal number of seconds above zero.")
        request.deadline += min(0.0, seconds - self._settings.deadline)

    def _openapi_document(self) -> bytes:
        if self._openapi is None:
            self._openapi = orjson.dumps(openapi.document(self._settings, framework.openapi()))
        return self._openapi

    def _log_access(self, method: str, path: str, exchange: Exchange, seconds: float) -> None:
        wanted = self._settings.access_log
        # What is refused is counted; a line for each would cost the rest their processor.
        failed = exchange.status >= 500 and exchange.status != 503
        is_problem = failed or seconds >= self._settings.slow_request
        if wanted == "off" or (wanted == "problems" and not is_problem):
            return
        path = path if path.isprintable() else repr(path)
        log.log(
            logging.WARNING if is_problem else logging.INFO,
            "%s %s %d",
            method,
            path,
            exchange.status,
            extra={
                "method": method,
                "path": path,
                "route": exchange.route,
                "status": exchange.status,
                "duration_seconds": round(seconds, 6),
            },
        )


def _only_get(scope: Scope) -> None:
    if scope["method"] != "GET":
        raise MethodNotAllowed(["GET"])
