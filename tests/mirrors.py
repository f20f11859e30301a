"""Package indexes and a proxy on the loopback interface, for builds that are told to use them."""

import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from inferplate_tools.client import HOST

_CHUNK = 64 * 2**10


class Folder(SimpleHTTPRequestHandler):
    """Serves a folder: a simple index, when each of its folders has a distribution's wheels."""

    def log_message(self, *_: object) -> None:
        pass


class Index(BaseHTTPRequestHandler):
    """An index that sends every question on to another, and notes which distribution it was."""

    def __init__(self, upstream: str, asked: set[str], *arguments: Any) -> None:
        self._upstream, self._asked = upstream.rstrip("/"), asked
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self._asked.add(name)
        self.send_response(302)
        self.send_header("Location", f"{self._upstream}/{name}/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Proxy(BaseHTTPRequestHandler):
    """A proxy for TLS that notes how many bytes it was sent by which host."""

    def __init__(self, received: Counter[str], *arguments: Any) -> None:
        self._received = received
        super().__init__(*arguments)

    def do_CONNECT(self) -> None:
        host, port = self.path.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as onward:
            self.send_response(200)
            self.end_headers()
            self._received[host] += _relay(self.connection, onward)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: Any, *arguments: object, **options: object) -> Iterator[str]:
    """Serve with a handler's class and its first arguments, and give the address."""
    make = partial(handler, *arguments, **options)
    with ThreadingHTTPServer((HOST, 0), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


def folder_of(wheels: list[Path], distribution: str, folder: Path) -> Path:
    """Lay wheels of a distribution out as an index has them."""
    (folder / distribution).mkdir()
    for wheel in wheels:
        (folder / distribution / wheel.name).symlink_to(wheel.resolve())
    return folder


def _relay(client: socket.socket, onward: socket.socket) -> int:
    """Copy bytes both ways until one side has no more, and count those for the client."""
    received = 0
    with selectors.DefaultSelector() as ready:
        for source, target in ((client, onward), (onward, client)):
            ready.register(source, selectors.EVENT_READ, target)
        while True:
            for key, _ in ready.select():
                reading: Any = key.fileobj
                data = reading.recv(_CHUNK)
                if not data:
                    return received
                key.data.sendall(data)
                received += len(data) if key.data is client else 0
