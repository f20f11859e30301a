"""Keys that a test presses in a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

ENTER, CTRL_C = "\r", "\x03"


@contextmanager
def typed(keys: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Press keys in a terminal, and close it."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        keyboard.send_text(keys)
        keyboard.close()
        yield
