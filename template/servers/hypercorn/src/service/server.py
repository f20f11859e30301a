"""Serve the application with hypercorn."""

import asyncio
import logging
import socket
import sys

import hypercorn.asyncio
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError

from service.ops import process, supervisor
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
    config = Config()
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
