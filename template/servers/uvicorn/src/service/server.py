"""Serve the application with uvicorn."""

import contextlib
import functools
import math
import socket
from collections.abc import Iterator

import uvicorn

from service.ops import process, supervisor
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
