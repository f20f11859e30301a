"""What Ctrl-C, SIGTERM and a closed terminal do for a while."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

_ENDINGS: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def interruptible() -> AbstractContextManager[None]:
    """Make every signal end this block as Ctrl-C does, with everything cleaned up."""
    return _handled_by(_interrupt)


def undisturbed() -> AbstractContextManager[None]:
    """Let no signal end this block, which takes only a moment."""
    return _handled_by(signal.SIG_IGN)


@contextmanager
def temporary_folder(prefix: str = "inferplate-", within: Path | None = None) -> Iterator[Path]:
    """Provide a temporary folder; an interrupt does not keep it from being removed."""
    folder = TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True)
    try:
        yield Path(folder.name)
    finally:
        with undisturbed():
            folder.cleanup()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    """Handle the signals this way, except those that are ignored already, such as by ``nohup``."""
    handled = {which: signal.getsignal(which) for which in _ENDINGS}
    before = {which: was for which, was in handled.items() if was != signal.SIG_IGN}
    for which in before:
        signal.signal(which, handler)
    try:
        yield
    finally:
        for which, was in before.items():
            signal.signal(which, was)
