"""What ends a command leaves nothing behind."""

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from inferplate.signals import interruptible, temporary_folder


def test_a_temporary_folder_goes_though_its_removal_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = TemporaryDirectory.cleanup

    def interrupted(folder: TemporaryDirectory[str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(folder)

    monkeypatch.setattr(TemporaryDirectory, "cleanup", interrupted)
    with temporary_folder(within=tmp_path) as folder:
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_each_signal_interrupts_unless_it_was_ignored_before(ending: str) -> None:
    def send() -> None:
        with interruptible():
            os.kill(os.getpid(), signal.Signals[ending])

    with pytest.raises(KeyboardInterrupt):
        send()
    before: Any = signal.signal(signal.Signals[ending], signal.SIG_IGN)
    try:
        send()
    finally:
        signal.signal(signal.Signals[ending], before)
