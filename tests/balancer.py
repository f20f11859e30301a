"""HAProxy in front of instances: connections go, in turn, to those that say they are ready."""

import csv
import io
import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from inferplate_tools.client import HOST
from inferplate_tools.service import free_port, wait_until

HAPROXY: Final = shutil.which("haproxy") or "/usr/sbin/haproxy"
CONFIGURATION: Final = """\
global
    stats socket {socket} level admin

defaults
    mode tcp
    retries 0
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    timeout check {probe[timeoutSeconds]}s

frontend clients
    bind {host}:{port}
    default_backend instances

backend instances
    balance roundrobin
    option httpchk GET {probe[httpGet][path]}
    http-check expect status 200
    default-server check rise 1 fall {probe[failureThreshold]} inter {probe[periodSeconds]}s
{servers}
"""
SECONDS: Final = 30
SERVER: Final = "    server {place} {host}:{port}\n"


class Balancer:
    """Forwards connections to instances, each a port of this machine.

    An instance gets no new connections once so many readiness probes in a row have failed. Nothing
    is sent twice: a connection that an instance refuses is closed, and lost for its client.

    ``probe``: the readiness probe of a container, as Kubernetes takes it.
    """

    def __init__(self, instances: list[int], probe: dict[str, Any]) -> None:
        self.port: Final = free_port()
        self._folder: Final = TemporaryDirectory()  # a path that is short enough for a socket
        self._socket: Final = str(Path(self._folder.name, "socket"))
        servers = "".join(
            SERVER.format(place=place, host=HOST, port=port) for place, port in enumerate(instances)
        )
        self._configuration: Final = CONFIGURATION.format(
            socket=self._socket, host=HOST, port=self.port, probe=probe, servers=servers
        )

    def __enter__(self) -> Self:
        file = Path(self._folder.name, "haproxy.cfg")
        file.write_text(self._configuration, encoding="utf-8")
        self._process = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(file)])
        assert wait_until(Path(self._socket).exists, SECONDS), "HAProxy does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def replace(self, place: int, port: int) -> None:
        """Let an instance be at another port from now on."""
        self._tell(f"set server instances/{place} addr {HOST} port {port}")

    def wait_ready(self) -> None:
        """Wait until the last probe of each instance has succeeded."""

        def ready() -> bool:
            return all(each["check_status"] == "L7OK" for each in self._servers())

        assert wait_until(ready, SECONDS), self._servers()

    def _servers(self) -> list[dict[str, str]]:
        table = csv.DictReader(io.StringIO(self._tell("show stat").removeprefix("# ")))
        return [row for row in table if row["svname"].isdigit()]

    def _tell(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._socket)
            connection.sendall(f"{command}\n".encode())
            return connection.makefile(encoding="utf-8").read()
