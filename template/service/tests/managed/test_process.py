"""The processes of one service."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import service
from service.ops import process

LATE_WORKER = """
import time
from service.ops import process
from service.ops.settings import Settings

process.APPLICATION = "time:time"
process.load_application(Settings())
time.sleep(20)
"""


def test_failure_reaches_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    with process.prepare(workers=1):
        assert process.failure() is None
        process.fail("no such model")
        assert process.failure() == "no such model"
    assert [pid for pid, _ in signals] == [os.getpid()]


def test_service_ends_without_an_error_only_if_it_was_asked_to_stop() -> None:
    with process.prepare(workers=1):
        assert process.exit_code() == 1
        process.start_draining()
        assert process.exit_code() == 0
    assert not process.draining()


@pytest.mark.skipif(sys.platform == "win32", reason="one worker, which is the main process")
def test_worker_ends_whose_main_process_died_before_it_started() -> None:
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(service.__path__[-1]).parent),
        "_SERVICE_MAIN_PID": str(died.pid),
    }
    command = [sys.executable, "-c", LATE_WORKER]
    ended = subprocess.run(command, env=environment, timeout=15, check=False)  # noqa: S603
    assert ended.returncode == -signal.SIGTERM
