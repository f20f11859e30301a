"""Serve the application with uvicorn."""

import asyncio
import contextlib
import functools
import math
import socket
from collections.abc import Iterator

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.ops import process, supervisor
from service.ops.connections import Connections
from service.ops.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    supervisor.run(_work, settings)


def _work(settings: Settings, listener: socket.socket) -> None:
    server = _Server(
        uvicorn.Config(
            functools.partial(process.load_application, settings),
            factory=True,
            interface="asgi3",
            http=_protocol(settings),
            lifespan="on",
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            timeout_keep_alive=math.ceil(settings.keep_alive_timeout),
            timeout_graceful_shutdown=math.ceil(settings.graceful_timeout),
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
    )
    process.on_stop(server.stop, settings.drain_delay)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Leaves the signals to `service.ops.process`, which drains before it stops the server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self, *_: object) -> None:
        self.should_exit = True


def _protocol(settings: Settings) -> type[HttpToolsProtocol]:
    class Protocol(_Protocol):
        open_connections = Connections(settings)
        max_header_bytes = settings.max_header_bytes

    return Protocol


class _HeadTooLarge(Exception):
    """The line and the headers of a request have too many bytes."""


class _Protocol(HttpToolsProtocol):
    """Limits the size of heads and the time for them, and ignores upgrades that are not taken.

    uvicorn limits neither. It drops the body of a request that offers an upgrade to anything but
    WebSocket, as the HTTP clients of Java and ``curl --http2`` do.
    """

    open_connections: Connections
    max_header_bytes: int
    _unparsed = 0
    """Bytes of the reads since the last one with the end of a head or with a part of a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.open_connections.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.closed(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._reject(431 if isinstance(error.__context__, _HeadTooLarge) else 400)
        else:
            if self._unparsed > self.max_header_bytes:
                self._reject(431)
            elif self.cycle is None or self.cycle.response_complete:
                self.open_connections.receiving(self.transport)

    def on_headers_complete(self) -> None:
        if self._unparsed > self.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.max_header_bytes:
                raise _HeadTooLarge
        self._unparsed = 0
        if not self._ignores_upgrade():
            self.open_connections.busy(self.transport)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        if not self._ignores_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        others = bool(self.pipeline)
        super().on_response_complete()
        if others:
            return
        if self._unparsed:  # a part of the next request came before
            self.open_connections.receiving(self.transport)
        else:
            self.open_connections.idle(self.transport)

    def _ignores_upgrade(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection to the WebSocket, or read the request again without the upgrade."""
        if self._should_upgrade():
            self.open_connections.upgraded(self.transport)
            self.handle_websocket_upgrade()
            return
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._reject(400)
            return
        version = self.parser.get_http_version().encode("ascii")
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _reject(self, status: int) -> None:
        self.logger.warning("Invalid HTTP request received.")
        self.transport.write(
            STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()
