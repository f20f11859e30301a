"""The processes of one service."""

import os

import pytest

from service.ops import process


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
