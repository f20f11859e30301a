"""Serve the application with gunicorn and its own ASGI worker."""

import asyncio
import math
import os
import signal
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.parser import LimitRequestHeaders
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gasgi
from gunicorn.workers.base import Worker

from service.ops import process, supervisor
from service.ops.connections import Connections
from service.ops.settings import Settings

_SILENCE: Final = 120
"""Seconds without a sign of life from its event loop, after which a worker is replaced."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    Raises:
        OSError: the address or the TLS files cannot be used.
    """
    try:
        _Gunicorn(settings).run()
    except SystemExit as ending:
        if process.is_main():
            raise
        _end_worker(ending.code)


def _end_worker(code: str | int | None) -> None:
    """End a worker. It is a fork, and what follows in the code is for the main process only.

    The exit codes that gunicorn has for workers that cannot start are not passed on: gunicorn would
    raise an exception in the main process and leave the other workers running.
    """
    if code in {Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR} and process.failure() is None:
        process.fail(f"a worker could not start (code {code})")
    os._exit(1 if code else 0)


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listener = supervisor.bind(settings).detach()
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        options = {
            "bind": f"fd://{self._listener}",
            "workers": settings.workers,
            "worker_class": _Worker,
            "asgi_lifespan": "on",
            "timeout": _SILENCE,
            "limit_request_line": settings.max_header_bytes,
            "limit_request_field_size": settings.max_header_bytes,
            "keepalive": math.ceil(settings.keep_alive_timeout),
            "graceful_timeout": math.ceil(settings.graceful_timeout) + 1,
            "certfile": str(settings.tls_certificate) if settings.tls_certificate else None,
            "keyfile": str(settings.tls_key) if settings.tls_key else None,
            "ssl_context": _tls_context,
            "loglevel": settings.log_level,
            "logger_class": _Logger,
            "errorlog": None,
            "control_socket_disable": True,
            # `service.web.proxies` believes proxies, those that the settings name.
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
            "when_ready": self._when_ready,
            "post_fork": self._post_fork,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        _Arbiter(self).run()

    def load(self) -> Any:
        return process.load_application(self._settings)

    def _when_ready(self, arbiter: Arbiter) -> None:
        process.on_stop(arbiter.signal, self._settings.drain_delay)

    def _post_fork(self, _arbiter: Arbiter, worker: Worker) -> None:
        """Let workers give up a second before they are killed, so that they end in order."""
        worker.open_connections = Connections(self._settings)
        worker.max_header_bytes = self._settings.max_header_bytes
        worker.cfg.set("graceful_timeout", math.ceil(self._settings.graceful_timeout))


class _Arbiter(Arbiter):  # type: ignore[misc]
    """Drains also after a signal that comes before `service.ops.process` handles it."""

    def signal(self, sig: int, frame: FrameType | None) -> None:
        if sig in {signal.SIGTERM, signal.SIGINT} and process.is_main():
            process.start_draining()
        super().signal(sig, frame)


class _Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Does not wait for idle connections when it ends."""

    open_connections: Connections
    max_header_bytes: int

    async def _shutdown(self) -> None:
        for server in self.servers:
            server.close()
        self.open_connections.close_waiting()
        await super()._shutdown()


class _Protocol(ASGIProtocol):  # type: ignore[misc]
    """Limits the size of heads as a whole, and the time for them."""

    worker: _Worker
    _unparsed = 0
    """Bytes of the head that is being read."""
    _early = False
    """Whether a part of the next request came before the last response was complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.worker.open_connections.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.open_connections.closed(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._current_request is None:
            self._unparsed += len(data)
        elif self._callback_parser and self._callback_parser.is_complete:
            self._early = True
        super().data_received(data)
        if self._current_request is None and not self._closed:
            self.worker.open_connections.receiving(self.transport)
            if self._unparsed > self.worker.max_header_bytes:
                self._send_error_response(431, "Request header fields too large")
                self._close_transport()

    def _on_headers_complete(self) -> None:
        if self._unparsed > self.worker.max_header_bytes:
            parser = self._callback_parser
            size = len(parser.path) + sum(
                len(name) + len(value) + 4 for name, value in parser.headers
            )
            if size > self.worker.max_header_bytes:
                raise LimitRequestHeaders("Request header fields too large")
        self._unparsed = 0
        self._early = False
        self.worker.open_connections.busy(self.transport)
        super()._on_headers_complete()

    def _arm_keepalive_timer(self) -> None:
        if self._early:
            self.worker.open_connections.receiving(self.transport)
        else:
            self.worker.open_connections.idle(self.transport)
        super()._arm_keepalive_timer()


gasgi.ASGIProtocol = _Protocol  # gunicorn has no option for the protocol


class _Logger(Logger):  # type: ignore[misc]
    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.propagate = True


def _tls_context(_config: Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Make the TLS context. If that fails, end the service: gunicorn would go on without TLS."""
    try:
        return make()
    except OSError as error:
        process.fail(f"the TLS certificate cannot be used: {error}")
        raise SystemExit(1) from error
