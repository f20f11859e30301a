"""A service of a project, really started, on a port of its own."""

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol, Self

from inferplate_tools.client import HOST, ask, samples
from inferplate_tools.errors import CheckFailed
from inferplate_tools.workbench import project_environment, tail

GRACEFUL_SECONDS: Final = 10.0
_LISTEN_SECONDS: Final = 30.0
"""Until a service accepts a connection; models are loaded after that."""
_READY_SECONDS: Final = 120.0
_EXIT_MARGIN: Final = 5.0
_PORTS: Final = range(10_000, 32_000)
"""Below the ports that systems hand out for outgoing connections."""


class Running(Protocol):
    """A service that was started somehow, on a port of the loopback interface."""

    @property
    def port(self) -> int: ...

    def answers_ready(self) -> bool: ...

    def terminate(self) -> None: ...

    def wait_exit(self) -> None: ...

    def failure(self, text: str) -> CheckFailed: ...


class Service:
    """``python -m service`` as a context manager; leaving it leaves no process behind.

    ``arguments``: of its command line. ``port_variable``: the one that has its port.
    """

    def __init__(
        self,
        project: Path,
        python: str,
        settings: Mapping[str, str],
        *,
        arguments: Sequence[str] = (),
        port_variable: str = "SERVICE_PORT",
    ) -> None:
        self.project: Final = project
        self.port: Final = free_port()
        self.log: Final = project / "service.log"
        self._command: Final = [python, "-m", "service", *arguments]
        self._settings: Final = {
            "SERVICE_HOST": HOST,
            port_variable: str(self.port),
            "SERVICE_GRACEFUL_TIMEOUT": f"{GRACEFUL_SECONDS:g}",
            **settings,
        }
        self._metrics_port: Final = int(settings.get("SERVICE_METRICS_PORT", self.port))
        self._workers: Final = int(settings.get("SERVICE_WORKERS", "1"))

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = self._start(log)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while the service runs."""
        return self._process.poll()

    @property
    def ended(self) -> bool:
        return self.code is not None

    def wait_ready(self) -> None:
        """Wait until the service says that it is ready, with every worker.

        Raises:
            CheckFailed: it ended, does not listen, or was not ready in time.
        """

        def listens() -> bool:
            self._check_running()
            return accepts(self.port)

        def ready() -> bool:
            self._check_running()
            return self.answers_ready() and self.ready_workers() >= self._workers

        if not wait_until(listens, _LISTEN_SECONDS):
            raise self.failure(f"the service does not listen after {_LISTEN_SECONDS:g} s")
        if not wait_until(ready, _READY_SECONDS):
            raise self.failure(f"the service is not ready after {_READY_SECONDS:g} s")

    def answers_ready(self) -> bool:
        """Return whether a new connection gets a 200 from the readiness probe."""
        return answers_ready(self.port)

    def ready_workers(self) -> float:
        """Read from the metrics how many workers are ready; 0 if they cannot be read."""
        try:
            return sum(value for _, value in samples(self._metrics_port, "inference_ready_workers"))
        except (OSError, http.client.HTTPException):
            return 0

    def terminate(self) -> None:
        """Send SIGTERM to the main process."""
        self._process.send_signal(signal.SIGTERM)

    def wait_exit(self, limit: float | None = None) -> None:
        """Wait for the end of the service.

        Raises:
            CheckFailed: it ran longer than ``limit`` seconds, by default its graceful time, or did
                not exit with 0.
        """
        budget = limit or GRACEFUL_SECONDS + _EXIT_MARGIN
        try:
            code = self._process.wait(budget)
        except subprocess.TimeoutExpired:
            raise self.failure(f"the service still runs {budget:g} s after SIGTERM") from None
        if code:
            raise self.failure(f"the service exited with {code} after SIGTERM")

    def _check_running(self) -> None:
        if self.ended:
            raise self.failure(f"the service ended with {self._process.returncode}")

    def failure(self, text: str) -> CheckFailed:
        """Make a failure that shows the end of the service's log."""
        return CheckFailed(f"{text}\n{tail(self.log.read_bytes())}")

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            self._command,
            cwd=self.project,
            env=project_environment(self._settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def accepts(port: int) -> bool:
    """Return whether something accepts connections on a port of the loopback interface."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        return True
    return False


def answers_ready(port: int) -> bool:
    """Return whether a new connection gets a 200 from the readiness probe."""
    try:
        return ask(port, "GET", "/v2/health/ready", timeout=2).status == 200
    except (OSError, http.client.HTTPException):
        return False


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.05) -> bool:
    """Wait until a condition holds. Return whether it did within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def free_port() -> int:
    """Find a port of the loopback interface that nothing listens on."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
