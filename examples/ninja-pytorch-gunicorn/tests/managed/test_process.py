"""The processes of one service."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import service
from service.ops import process
from service.ops.settings import Settings

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


def test_failure_on_windows_ends_the_service_by_its_own_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(process, "_IS_WINDOWS", True)
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    stopped = threading.Event()
    numbers = [number for number in signal.valid_signals() if signal.getsignal(number) is not None]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        with process.prepare(workers=1), monkeypatch.context() as patch:
            patch.setattr(process, "_end_on_failure", lambda _: None)
            process.on_stop(lambda *_: stopped.set(), delay=0)
            process.fail("no such model")
            assert stopped.is_set()
        with process.prepare(workers=1):
            stopped.clear()
            process.on_stop(lambda *_: stopped.set(), delay=0)
            monkeypatch.setattr(process, "is_main", lambda: False)
            process.fail("no such model")
            monkeypatch.setattr(process, "is_main", lambda: True)
            assert stopped.wait(10)
            assert process.draining()
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    assert not killed


def test_failure_is_one_line_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with process.prepare(workers=1):
        process.fail("the model\n\r\n  could not be loaded: " + "x" * 10_000_000)
        text = process.failure()
    assert text is not None
    assert text.startswith("the model could not be loaded: xxx")
    assert len(text) < 3000


def test_service_ends_without_an_error_only_if_it_was_asked_to_stop() -> None:
    with process.prepare(workers=1):
        assert process.exit_code() == 1
        process.start_draining()
        assert process.exit_code() == 0
    assert not process.draining()


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Give process ids of workers that are dead; this process is a living worker of another one."""
    pids = []
    with process.prepare(workers=1):
        monkeypatch.setattr(process, "is_main", lambda: False)
        for _ in range(5):
            died = subprocess.Popen([sys.executable, "-c", ""])
            died.wait()
            pids.append(died.pid)
        yield pids


def die(pid: int, reason: str = "") -> None:
    """Leave behind what a worker does that dies on probation."""
    (shared() / f"probation-{pid}").write_text(reason)


def shared() -> Path:
    return Path(os.environ["_SERVICE_PROCESS_DIRECTORY"])


@pytest.mark.parametrize(("deaths", "delay"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4)])
def test_deaths_one_after_the_other_delay_the_next_worker(
    dead: list[int], monkeypatch: pytest.MonkeyPatch, deaths: int, delay: int
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    for pid in dead[:deaths]:
        die(pid)
    process._begin_probation()
    assert now == pytest.approx(delay, abs=0.1)
    assert (shared() / f"probation-{os.getpid()}").exists()


def test_too_many_deaths_end_the_service_with_their_reason(
    dead: list[int], failures: list[str]
) -> None:
    for pid in dead[:4]:
        die(pid)
    die(dead[4], "the model ended with SystemExit: 0")
    with pytest.raises(SystemExit) as ended:
        process._begin_probation()
    assert ended.value.code == 1
    assert failures == [
        "5 workers died within a minute of being ready: the model ended with SystemExit: 0"
    ]


def test_worker_that_stays_ready_forgets_the_deaths_but_not_the_living(
    dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    die(dead[0])
    die(os.getppid())
    process._begin_probation()
    process._end_probation()
    assert process.deaths() is not None, "not ready yet"
    process.report_ready()
    process._end_probation()
    assert process.deaths() is not None, "not ready for long"
    monkeypatch.setattr(process, "_PROBATION", 0)
    process._end_probation()
    assert process.deaths() is None
    assert [file.name for file in shared().glob("probation-*")] == [f"probation-{os.getppid()}"]


def test_worker_that_leaves_says_why_is_not_ready_and_ends_in_time(
    dead: list[int], monkeypatch: pytest.MonkeyPatch, failures: list[str]
) -> None:
    signals: list[tuple[int, int]] = []
    alarms: list[int] = []
    process._begin_probation()
    process.report_ready()
    monkeypatch.setattr(signal, "alarm", alarms.append)
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    process.leave("the model hangs", limit=3)
    assert signals == [(os.getpid(), signal.SIGTERM)]
    assert 3 <= alarms[0] <= 5
    assert not list(shared().glob("ready-*"))
    assert (shared() / f"probation-{os.getpid()}").read_text() == "the model hangs"
    assert failures == []


def test_only_process_of_a_service_ends_it(failures: list[str]) -> None:
    with process.prepare(workers=1):
        process.leave("the model hangs", limit=3)
    assert failures == ["the model hangs"]


def test_hosted_process_only_records_why_it_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    ended: list[int] = []
    monkeypatch.setattr(process, "_terminate", ended.append)
    before = set(os.environ)
    with process.hosted():
        assert process.is_main()
        process.fail("no such model")
        assert process.failure() == "no such model"
        process.leave("the model hangs", limit=3)
        assert process.failure() == "the model hangs"
    assert ended == [], "its host ends it"
    assert set(os.environ) == before
    with process.prepare(workers=1):
        assert process.failure() is None
        process.fail("no such model")
    assert ended == [os.getpid()]


@pytest.mark.parametrize("ending", ["SystemExit(0)", "BaseException('panic')"])
def test_import_that_ends_itself_ends_the_service(
    monkeypatch: pytest.MonkeyPatch, failures: list[str], tmp_path: Path, ending: str
) -> None:
    (tmp_path / "ends_itself.py").write_text(f"raise {ending}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(process, "APPLICATION", "ends_itself:app")
    monkeypatch.setattr(process, "configure_logging", lambda settings: None)
    monkeypatch.setattr(process, "_end_in_time", lambda limit: None)
    monkeypatch.delitem(sys.modules, "ends_itself", raising=False)
    with process.prepare(workers=1), pytest.raises(SystemExit) as ended:
        process.load_application(Settings())
    assert ended.value.code == 1
    assert [ending.partition("(")[0] in failure for failure in failures] == [True]


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
