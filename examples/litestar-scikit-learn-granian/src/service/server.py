"""Serve the application with granian."""

import contextlib
import functools
import math
import multiprocessing
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

from service.ops import process, supervisor
from service.ops.connections import connection_limit
from service.ops.settings import Settings

_BACKLOG: Final = 2048
_POLL: Final = 0.25

_LOGGING = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    if settings.unix_socket:
        supervisor.remove_stale(settings.unix_socket)
    else:
        supervisor.bind(settings).close()  # granian would silently share a port in use
    multiprocessing.set_start_method("spawn", force=True)
    server = _Server(
        process.APPLICATION,
        address=settings.host,
        port=settings.port,
        uds=settings.unix_socket,
        uds_permissions=supervisor.SOCKET_MODE,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=settings.workers,
        respawn_failed_workers=True,
        # The one timer that granian has, for idle connections and for slow headers.
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.keep_alive_timeout * 1000),
            max_buffer_size=settings.max_header_bytes,
        ),
        backlog=_BACKLOG,
        backpressure=connection_limit(settings),
        workers_kill_timeout=math.ceil(settings.graceful_timeout) + 1,
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_level=LogLevels(settings.log_level),
        log_dictconfig=_LOGGING,
    )
    server.on_startup(
        lambda: process.on_stop(server.signal_handler_interrupt, settings.drain_delay)
    )
    server.serve(target_loader=functools.partial(_load, settings), wrap_loader=False)


def _load(settings: Settings) -> "_Application":
    return _Application(process.load_application(settings), settings)


class _Server(Granian):  # type: ignore[misc, valid-type]
    """Drains also after a signal that comes before `service.ops.process` handles it."""

    def signal_handler_interrupt(self, *args: object) -> None:
        process.start_draining()
        super().signal_handler_interrupt(*args)


class _Application:
    """Closes connections that wait, where granian would wait for them, and answers bad chunks.

    Those of a Unix socket cannot be told apart: they are closed when none has a request.

    granian ends when every connection is closed, also one that sent nothing or a part of a request.
    When there are as many connections as there may be, it accepts no other until one is closed.
    """

    def __init__(self, application: Any, settings: Settings) -> None:
        self._application: Final = application
        path = settings.unix_socket
        self._address: Final = str(path.resolve()) if path else settings.port
        self._limit: Final = connection_limit(settings)
        self._busy: Final = Counter[int]()
        """How many requests are answered, by the port of the client; 0 for a Unix socket."""
        self._served: Final = set[int]()
        """Ports of clients that sent a request."""
        if os.name == "posix":
            threading.Thread(target=self._watch, name="connections", daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        port = int(scope["client"][1])  # granian 2.8 has it as a string
        self._served.add(port)
        self._busy[port] += 1
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            else:
                await self._application(scope, receive, send)
        finally:
            self._busy[port] -= 1
            if not self._busy[port]:
                del self._busy[port]

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the application. Reject a body that is not HTTP, which looks like a disconnect."""
        responded = False

        async def note(message: Any) -> None:
            nonlocal responded
            responded = True
            await send(message)

        await self._application(scope, receive, note)
        if not responded:
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body"})

    def _watch(self) -> None:
        waited: set[int] = set()
        while True:
            time.sleep(_POLL)
            ending = process.ending()
            if not ending and len(_descriptors()) < self._limit:
                waited = set()
                continue
            connections = [port for port, _ in self._connections()]
            present = set(connections)
            self._served.intersection_update(present)
            waiting = present.difference(self._busy)
            if ending:
                self._close(waiting)
            elif len(connections) >= self._limit:
                silent = waiting - self._served
                self._close(waited & (silent or waiting))
            waited = waiting

    def _close(self, ports: set[int]) -> None:
        for port, connection in self._connections():
            if port in ports and port not in self._busy:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _connections(self) -> Iterator[tuple[int, socket.socket]]:
        """Find the connections of this process, each with the port of its client."""
        for descriptor in _descriptors():
            with contextlib.suppress(OSError):  # it is closed by now, or not connected
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    continue
                with socket.socket(fileno=os.dup(descriptor)) as connection:
                    peer, own = connection.getpeername(), connection.getsockname()
                    if connection.family in {socket.AF_INET, socket.AF_INET6}:
                        peer, own = peer[1], own[1]
                    else:
                        peer = 0
                    if own == self._address:
                        yield peer, connection


def _descriptors() -> list[int]:
    with os.scandir("/dev/fd") as entries:
        return [int(entry.name) for entry in entries]
