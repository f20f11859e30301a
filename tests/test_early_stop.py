"""SIGTERM during the start: process 1 of a container must not lose it, and ends with 0."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.matrix import Variant
from inferplate.running import Service, wait_until
from inferplate.workbench import Workbench

SIGNAL_AFTER = """
import os
import signal

pid, set_handler = os.getpid(), signal.signal
left = int(os.environ.pop("SIGTERM_AFTER", "0"))


def set_handler_and_stop(number, handler):
    global left
    before = set_handler(number, handler)
    if number == signal.SIGTERM and os.getpid() == pid:
        left -= 1
        if not left:
            os.kill(pid, signal.SIGTERM)
    return before


signal.signal = set_handler_and_stop
"""
"""A `sitecustomize` that sends SIGTERM right after the main process has set its n-th handler."""

SETTINGS = {"SERVICE_THREADS": "1", "SERVICE_GRACEFUL_TIMEOUT": "20"}
"""A worker that misses the signal would live for longer than the test waits."""
PAUSES = (0.0, 0.2, 0.5, 0.9)
"""Seconds from the moment at which SIGTERM is handled to the signal."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_sigterm_during_the_start(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("SIGTERM in the first second: not lost, exit code 0", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    for pause in PAUSES:
        with Service(project, bench.python, SETTINGS) as service:
            assert wait_until(lambda: handles(service.pid, signal.SIGTERM), 10)
            if not pause:
                assert "numpy" not in Path(f"/proc/{service.pid}/maps").read_text()
            time.sleep(pause)
            service.terminate()
            service.wait_exit()


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_sigterm_after_each_handler(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    """Servers set handlers of their own before the service's: a signal between them counts too."""
    project = copy_of(variant)
    (project / "src" / "sitecustomize.py").write_text(SIGNAL_AFTER, encoding="utf-8")
    for number in range(1, 10):
        settings = {**SETTINGS, "SIGTERM_AFTER": str(number)}
        with Service(project, bench.python, settings) as service:

            def ready_or_ended(service: Service = service) -> bool:
                return service.ended or service.answers_ready()

            assert wait_until(ready_or_ended, 60)
            if not service.ended:  # it has set fewer handlers
                assert number > 3
                return
            service.wait_exit()
    raise AssertionError("the service never started")


def handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
