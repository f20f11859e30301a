"""What Ctrl-C and SIGTERM do for a while."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def interruptible() -> AbstractContextManager[None]:
    """Let SIGTERM end what is done here as Ctrl-C does: with everything cleaned up."""
    return _handled_by(_interrupt)


def undisturbed() -> AbstractContextManager[None]:
    """Let neither end what is done here, which takes a moment only."""
    return _handled_by(signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    before = {which: signal.signal(which, handler) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handled in before.items():
            signal.signal(which, handled)
