"""Shows at a terminal what a slow step is doing; elsewhere, and where it is unwanted, nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_UNWANTED: Final = ContextVar("unwanted", default=False)


def show_none() -> None:
    """Show no step from here on."""
    _UNWANTED.set(True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show a text beside a spinner on stderr, and remove it afterwards."""
    if _UNWANTED.get() or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} …", spinner="line"):
        yield
