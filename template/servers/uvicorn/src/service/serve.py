"""Serve the application with uvicorn."""

import contextlib
import functools
import math
import socket
from collections.abc import Iterator

import uvicorn

from service import process, supervisor
from service.config import Settings
from service.http import ASGIApp


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let the requests in flight finish.

    How it went is known to `process`, whether this returns or raises SystemExit.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    supervisor.run(_work, settings)


def _work(settings: Settings, listener: socket.socket) -> None:
    server = _Server(
        uvicorn.Config(
            functools.partial(_application, settings),
            factory=True,
            interface="asgi3",
            lifespan="on",
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
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


def _application(settings: Settings) -> ASGIApp:
    with process.starting(settings):
        from service.asgi import app
    return app


class _Server(uvicorn.Server):
    """A server that leaves the signals to `process`, where the drain comes first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self, *_: object) -> None:
        self.should_exit = True
