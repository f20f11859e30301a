"""A server that is measured: its process tree, and what that uses."""

import ctypes
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import psutil

from inferplate_tools.client import ask
from inferplate_tools.errors import CheckFailed
from inferplate_tools.service import free_port, wait_until

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01
_REST_SECONDS: Final = 0.5
_REST_SHARE: Final = 0.15
"""A server that uses less of a processor counts as idle: some poll all the time."""


class Server:
    """A server's whole process tree, pinned; leaving the context leaves nothing behind.

    ``{port}`` in the command and the environment stands for the port that it gets.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        ready: str,
        processors: Collection[int],
    ) -> None:
        self.port: Final = free_port()
        self.seconds_to_ready = 0.0
        self._command: Final = [part.replace("{port}", str(self.port)) for part in command]
        self._folder: Final = folder
        self._environment: Final = {
            name: value.replace("{port}", str(self.port)) for name, value in environment.items()
        }
        self._ready: Final = ready
        self._processors: Final = frozenset(processors)
        self._log: Final = folder / "server.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = psutil.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._become_pinned,
            )
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        tree = self._tree()
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGTERM)
        with suppress(psutil.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(tree, _STOP_SECONDS)

    def wait_ready(self, seconds: float) -> None:
        """Wait until the server says that it is ready, and note how long that took.

        Raises:
            CheckFailed: it ended, or is not ready in time.
        """
        self.wait_alive(seconds)
        self.seconds_to_ready = time.perf_counter() - self._began

    def wait_alive(self, seconds: float) -> None:
        """Wait until the server says that it is ready.

        Raises:
            CheckFailed: it ended, or is not ready in time.
        """
        if not wait_until(self._is_ready, seconds, every=_POLL_SECONDS):
            raise CheckFailed(f"not ready after {seconds:g} s: {self.last_line()}")

    def settle(self, seconds: float) -> None:
        """Wait until the process tree rests, or for some seconds at most.

        Some say that they are ready and go on starting parts of themselves.
        """
        until = time.monotonic() + seconds
        used = self.cpu_seconds()
        while time.monotonic() < until:
            time.sleep(_REST_SECONDS)
            before, used = used, self.cpu_seconds()
            if used - before < _REST_SHARE * _REST_SECONDS:
                return

    def is_alive(self) -> bool:
        """Return whether the probe gets a 200."""
        return ask(self.port, "GET", self._ready, timeout=30).status == 200

    def cpu_seconds(self) -> float:
        """Return the processor time that the process tree has used so far."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def resident_mb(self) -> float:
        """Return the resident memory of the process tree in MB; shared pages count each time."""
        total = 0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6

    def freeze(self) -> None:
        """Stop every process where it is, so that it takes nothing from the others."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process go on."""
        self._signal(signal.SIGCONT)

    def last_line(self) -> str:
        """Return the last line that the server printed."""
        lines = self._log.read_text("utf-8", "replace").split("\n")
        return next(
            (line.strip() for line in reversed(lines) if line.strip()), "it printed nothing"
        )

    def _become_pinned(self) -> None:
        os.sched_setaffinity(0, self._processors)
        # What detaches itself stays in the tree: its new parent is the server, not init.
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)

    def _is_ready(self) -> bool:
        if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
            raise CheckFailed(f"ended before it was ready: {self.last_line()}")
        try:
            return ask(self.port, "GET", self._ready, timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _signal(self, number: signal.Signals) -> None:
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []
