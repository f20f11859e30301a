"""Serve the application with hypercorn."""

import asyncio
import logging
import socket
import sys

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.utils import LifespanFailureError

from service.ops import process, supervisor
from service.ops.connections import Connections
from service.ops.settings import Settings

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    supervisor.run(_work, settings)


def _work(settings: Settings, listener: socket.socket) -> None:
    config = _Config()
    config.open_connections = Connections(settings)
    config.h11_max_incomplete_size = settings.max_header_bytes
    if settings.tls_certificate:
        config.ssl_handshake_timeout = settings.header_timeout
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = 2048
    config.certfile = str(settings.tls_certificate) if settings.tls_certificate else None
    config.keyfile = str(settings.tls_key) if settings.tls_key else None
    config.keep_alive_timeout = settings.keep_alive_timeout
    config.graceful_timeout = settings.graceful_timeout
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(settings, config))


async def _run(settings: Settings, config: Config) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stopped.set)

    process.on_stop(stop, settings.drain_delay)
    application = process.load_application(settings)
    try:
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=stopped.wait)
    except LifespanFailureError as error:
        raise SystemExit(1) from error


class _Config(Config):
    open_connections: Connections


class _Connection(TCPServer):
    """Limits the size of heads exactly, and the time for them."""

    config: _Config
    writer: asyncio.StreamWriter
    _waiting = True
    """Whether a head is awaited, not a body or a response."""
    _unparsed = 0
    """Bytes of the head that is being read."""

    async def run(self) -> None:
        self.config.open_connections.opened(self.writer.transport)
        try:
            await super().run()
        finally:
            self.config.open_connections.closed(self.writer.transport)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._waiting = event.idle
            self._unparsed = 0
            if event.idle and self._has_early_data():
                self.config.open_connections.receiving(self.writer.transport)
            elif event.idle:
                self.config.open_connections.idle(self.writer.transport)
            else:
                self.config.open_connections.busy(self.writer.transport)
        await super().protocol_send(event)

    def _has_early_data(self) -> bool:
        """Return whether a part of the next request came before the last response was complete."""
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and bool(protocol.connection.trailing_data[0])

    async def _read_data(self) -> None:
        while not self.reader.at_eof():
            try:
                data = await self.reader.read(MAX_RECV)
            except OSError:
                break
            if self._waiting and isinstance(self.protocol.protocol, H11Protocol):
                # h11 finds a head too large when it has read too much without finding its end.
                room = self.config.h11_max_incomplete_size + 1 - self._unparsed
                self._unparsed += len(data)
                if len(data) > room:
                    await self.protocol.handle(RawData(data[:room]))
                    data = data[room:]
            if self.writer.is_closing():
                break
            await self.protocol.handle(RawData(data))
            if self._unparsed:
                self.config.open_connections.receiving(self.writer.transport)
        await self.protocol.handle(Closed())


vars(hypercorn.asyncio.run)["TCPServer"] = _Connection  # hypercorn has no option for it
