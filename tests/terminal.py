"""Keys that a test presses in a terminal, and what the terminal shows."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

ENTER, CTRL_C, CTRL_U = "\r", "\x03", "\x15"
SILENCE_S = 30
"""How long nothing is shown until a command in a terminal counts as stuck."""


@contextmanager
def typed(keys: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Press keys in a terminal, and close it."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        keyboard.send_text(keys)
        keyboard.close()
        yield


def shown(
    command: Sequence[str], dialogue: Sequence[tuple[str, str]], columns: int, folder: Path
) -> str:
    """Run a command in a terminal of so many columns, and return what it shows.

    ``dialogue``: texts to wait for, each with the keys to press then. Blanks and line breaks are
    left out of what is shown and of what is waited for: a text may take several lines.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    settings = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "HOME": str(folder)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **settings},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    received, text, left, begun = b"", "", list(dialogue), 0
    try:
        with suppress(OSError):  # the terminal has closed
            while select.select([ours], [], [], SILENCE_S)[0] and (more := os.read(ours, 65536)):
                received += more
                text = _without_controls(received)
                if left and (found := text.find(_without_blanks(left[0][0]), begun)) >= 0:
                    begun = found + 1
                    os.write(ours, left.pop(0)[1].encode())
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not left, (left[0], text)
    return text


def _without_controls(received: bytes) -> str:
    text = received.decode(errors="ignore")
    return _without_blanks(re.sub(r"\x1b(\[[?\d;]*[A-Za-z]|\][^\x07]*\x07|.)", "", text))


def _without_blanks(text: str) -> str:
    return re.sub(r"\s", "", text)
