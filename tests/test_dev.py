"""``make dev`` in an emitted project: it serves what changes, and Ctrl-C ends everything."""

import http.client
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from inferplate.template.variants import Variant
from inferplate_tools.client import ask
from inferplate_tools.service import answers_ready, free_port, wait_until
from inferplate_tools.workbench import Workbench, project_environment

SERVERS = {"uvicorn": "1", "gunicorn": "2", "granian": "2", "hypercorn": "2"}
"""With how many workers each is tried: uvicorn without a main process of its own."""

SECONDS = 60
ROUTE = """

@router.get("/number")
async def number() -> int:
    return {number}
"""
SLOW_ROUTE = """

@router.get("/slow")
async def slow() -> None:
    import asyncio

    await asyncio.sleep(300)
"""


class Developer:
    """Somebody who runs ``make dev`` and edits routes.py."""

    def __init__(self, project: Path, port: int, make: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.make = make
        self._log = project / "dev.log"
        self._routes = project / "src/service/routes.py"
        self._seeded = self._routes.read_text(encoding="utf-8")

    def write(self, added: str) -> None:
        self._routes.write_text(self._seeded + added, encoding="utf-8")

    def wait(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition, SECONDS), self._log.read_text(encoding="utf-8")

    def wait_number(self, number: int) -> None:
        """Wait until the service answers with this number and is ready."""
        self.wait(lambda: self._number() == str(number).encode() and answers_ready(self.port))

    def _number(self) -> bytes | None:
        try:
            return ask(self.port, "GET", "/number", timeout=2).body
        except (OSError, http.client.HTTPException):
            return None


@contextmanager
def developing(project: Path, python: str, workers: str) -> Iterator[Developer]:
    """Run ``make dev``, as a terminal does: in a process group of its own, with its signals."""
    port = free_port()
    path = f"{Path(python).parent}:/usr/bin:/bin"
    settings = {"PATH": path, "SERVICE_PORT": str(port), "SERVICE_WORKERS": workers}
    with (project / "dev.log").open("wb") as log:
        make = subprocess.Popen(
            ["make", "dev", "RUN="],  # noqa: S607 - the one in PATH, as for its user
            cwd=project,
            env=project_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Developer(project, port, make)
    finally:
        left = processes_in(project)
        with suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        make.wait()


def processes_in(project: Path) -> list[psutil.Process]:
    """Return the processes that run in the project's folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(project) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_changes_are_served_and_ctrl_c_ends_everything(
    server: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", server)).resolve()
    with developing(project, bench.python, SERVERS[server]) as developer:
        developer.wait(lambda: answers_ready(developer.port))
        developer.write(ROUTE.format(number=1))
        developer.wait_number(1)
        developer.write("\nthis is not Python")
        developer.wait(lambda: not answers_ready(developer.port))
        developer.write(ROUTE.format(number=2) + SLOW_ROUTE)
        developer.wait_number(2)
        slow = http.client.HTTPConnection("127.0.0.1", developer.port)
        slow.request("GET", "/slow")
        developer.write(ROUTE.format(number=3))
        developer.wait_number(3)
        slow.close()
        assert processes_in(project)
        os.killpg(developer.make.pid, signal.SIGINT)
        developer.make.wait(SECONDS)
        developer.wait(lambda: not processes_in(project))
