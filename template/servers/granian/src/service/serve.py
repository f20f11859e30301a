"""Serve the application with granian."""

import functools
import math
import multiprocessing

from granian import Granian
from granian.constants import Interfaces, SSLProtocols
from granian.log import LogLevels

from service import process, supervisor
from service.config import Settings
from service.http import ASGIApp

_LOGGING = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let the requests in flight finish.

    How it went is known to `process`, whether this returns or raises SystemExit.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    supervisor.listen(settings.host, settings.port).close()  # granian shares a port silently
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        "service.asgi:app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        respawn_failed_workers=True,
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
    server.serve(target_loader=functools.partial(_application, settings), wrap_loader=False)


def _application(settings: Settings) -> ASGIApp:
    with process.starting(settings):
        from service.asgi import app
    return app
