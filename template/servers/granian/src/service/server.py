"""Serve the application with granian."""

import functools
import math
import multiprocessing

from granian import Granian
from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

from service.ops import process, supervisor
from service.ops.settings import Settings

_LOGGING = {"incremental": True, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    supervisor.listen(
        settings.host, settings.port
    ).close()  # granian would silently share a port in use
    multiprocessing.set_start_method("spawn", force=True)
    server = Granian(
        process.APPLICATION,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        respawn_failed_workers=True,
        # The one timer that granian has, for idle connections and for slow headers.
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.keep_alive_timeout * 1000)),
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
    server.serve(
        target_loader=functools.partial(process.load_application, settings), wrap_loader=False
    )
