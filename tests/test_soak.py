"""The soak: two minutes of it, and what it says of a service that keeps what it took."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks/soak.py"


def soak(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.slow
def test_two_minutes_leave_nothing_behind() -> None:
    done = soak("--minutes", "2", "--framework", "fastapi", "--server", "uvicorn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests in flight" in done.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ("--minutes", "0"),
        ("--minutes", "many"),
        ("--framework", "flask"),
        ("--server", "daphne"),
        ("--workers", "0"),
        ("--memory-margin", "-1"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_one_clear_line(wrong: tuple[str, str]) -> None:
    done = soak(*wrong)
    assert done.returncode != 0
    assert not done.stdout
    assert wrong[1] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_what_is_not_given_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from soak import MIB, Level, leaks

    before = Level(memory=100 * MIB, files=17, threads=5, queued=0, in_flight=0)
    assert not list(leaks(before, Level(110 * MIB, 17, 5, 0, 0), margin=10))
    assert not list(leaks(before, Level(90 * MIB, 12, 4, 0, 0), margin=10))
    assert list(leaks(before, Level(111 * MIB, 18, 6, 2, 1), margin=10)) == [
        "resident memory grew from 100.0 to 111.0 MiB, more than 10 %",
        "open files grew from 17 to 18",
        "threads grew from 5 to 6",
        "2 rows are left in the queue",
        "1 requests still count as in flight",
    ]


def test_a_wrong_outcome_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from soak import Kind, Traffic

    async def ask() -> str:
        raise AssertionError("nothing is sent here")

    traffic = Traffic([Kind("valid", ask, ("200",)), Kind("malformed", ask, ("400", "422"))])
    traffic.outcomes.update({("valid", "200"): 9, ("malformed", "500"): 2})
    assert list(traffic.wrong()) == ["2 'malformed' requests ended with 500 instead of 400 or 422"]
    traffic.outcomes.clear()
    assert sorted(traffic.wrong()) == [
        "no 'malformed' request was sent",
        "no 'valid' request was sent",
    ]
