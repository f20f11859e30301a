"""Shows at a terminal what a slow step is doing; elsewhere, and where it is unwanted, nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_WANTED: Final = ContextVar("wanted", default=True)


def show_steps(*, wanted: bool) -> None:
    """Say whether steps are to be shown from here on."""
    _WANTED.set(wanted)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show a text beside a spinner on stderr, and remove it afterwards."""
    if not _WANTED.get() or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} …", spinner="line"):
        yield
