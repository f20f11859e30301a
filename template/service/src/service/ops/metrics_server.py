"""The page of metrics on a port of its own, which need not be open to those who ask the model."""

import asyncio
import contextlib
import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Final

from service.ops import metrics
from service.ops.settings import Settings

_POLL: Final = 0.1
_TIMEOUT: Final = 5
"""Seconds that a client may take for each part of a request."""

log = logging.getLogger("service.metrics")


@contextlib.contextmanager
def metrics_server(settings: Settings) -> Iterator[None]:
    """Answer /metrics on its port in threads, if it has one.

    Each worker does, on a port that they share: any of them knows the metrics of all.

    Raises:
        OSError: the port is in use.
    """
    if not settings.metrics_port:
        yield
        return
    with _Server(settings) as server:
        thread = threading.Thread(
            target=server.serve_forever, args=(_POLL,), name="metrics", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            server.finish()


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/metrics":
            self._respond(200, asyncio.run(metrics.render()), metrics.CONTENT_TYPE)
        else:
            self._respond(404, b"Metrics are at /metrics.\n", "text/plain")

    do_HEAD = do_GET

    def _respond(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "inference"

    def log_message(self, *_: object) -> None:
        """Leave requests for the metrics out of the log."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, settings: Settings) -> None:
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self.allow_reuse_port = settings.workers > 1
        super().__init__((settings.host, settings.metrics_port), _Handler)

    def finish(self) -> None:
        """Stop, and answer those who wait already: they chose this worker, not another."""
        self.shutdown()
        self.timeout = 0
        self._waiting = True
        while self._waiting:
            self.handle_request()

    def handle_timeout(self) -> None:
        """Note that nobody waits."""
        self._waiting = False

    def handle_error(self, *_: object) -> None:
        log.warning("the metrics were not sent", exc_info=True)
