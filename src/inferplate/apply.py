"""Carries out an update, whole or not at all."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from inferplate.plan import Plan


def apply(plan: Plan) -> None:
    """Change the files of the project; HEAD and the index stay, so that git shows what changed.

    Raises:
        InferplateError, KeyboardInterrupt: it did not come to an end; the project is as before.
    """
    if not plan.patch:
        return
    git = plan.project.repository
    git.raw("apply", "--check", "-", given=plan.patch)
    try:
        git.raw("apply", "--whitespace=nowarn", "-", given=plan.patch, shielded=True)
    except BaseException:
        with _signals(signal.SIG_IGN):
            _restore(plan)
        raise


def interruptible() -> AbstractContextManager[None]:
    """Let SIGTERM end what is done here as Ctrl-C does: with everything cleaned up."""
    return _signals(_interrupt)


def _restore(plan: Plan) -> None:
    git, prefix = plan.project.repository, plan.project.prefix
    touched = {
        f"{prefix}{name}"
        for change in plan.changes
        for name in (change.path, change.moved_from)
        if name
    }
    tracked = git.fields("ls-files", "-z", "--", f"./{prefix}")
    changed = "".join(f"{path}\0" for path in touched.intersection(tracked))
    for path in touched.difference(tracked):
        (git.folder / path).unlink(missing_ok=True)
        with suppress(OSError):
            for parent in (git.folder / path).relative_to(git.folder).parents:
                (git.folder / parent).rmdir()
    given = changed.encode("utf-8", "surrogateescape")
    git.raw("checkout-index", "--force", "-z", "--stdin", given=given, shielded=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    """Handle what ends a program in this way for a while."""
    before = {which: signal.signal(which, handler) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handled in before.items():
            signal.signal(which, handled)
