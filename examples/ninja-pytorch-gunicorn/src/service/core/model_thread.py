"""The one thread of a process in which the model is loaded and runs."""

import asyncio
import contextlib
import functools
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar

THREAD_NAME: Final = "model"

T = TypeVar("T")


class ModelStopped(Exception):
    """The model can run no more in this process. The text is one line and says why."""


def stopped_by(error: BaseException) -> ModelStopped:
    """Return the failure of a model that raised what no caller expects, such as SystemExit.

    Panics of Rust are such exceptions. What the model is worth after one, nobody knows.
    """
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    failure = ModelStopped(f"the model ended with {text.rstrip(': ')}")
    failure.__cause__ = error
    return failure


class ModelThread:
    """Runs calls one after the other, off the event loop.

    It is a daemon thread and not an executor: a model that never returns must not keep the process
    alive, and some runtimes store their settings per thread.
    """

    def __init__(self) -> None:
        self._calls: Final = queue.SimpleQueue[Callable[[], None] | None]()
        self._thread: Final = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a function in the thread; the future belongs to the caller's event loop.

        Raises:
            ModelStopped: in the future, for an exception that would end the event loop.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                outcome = function(*args)
            except Exception as error:
                _deliver(loop, future, future.set_exception, error)
            except BaseException as error:
                _deliver(loop, future, future.set_exception, stopped_by(error))
            else:
                _deliver(loop, future, future.set_result, outcome)

        self._calls.put(run)
        return future

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function in the thread that delivers its own outcome and never raises."""
        self._calls.put(functools.partial(function, *args))

    def where(self) -> str:
        """Return the lines of code that the thread is executing, as in a traceback."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else ""

    def stop(self) -> None:
        """End the thread once it has finished what it was given."""
        self._calls.put(None)

    def _work(self) -> None:
        while run := self._calls.get():
            run()
            del run  # releases the tensors before waiting for the next call


def _deliver(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[T]",
    settle: Callable[[Any], None],
    value: object,
) -> None:
    def settle_unless_cancelled() -> None:
        if not future.done():
            settle(value)

    with contextlib.suppress(RuntimeError):  # the loop was closed while the model ran
        loop.call_soon_threadsafe(settle_unless_cancelled)
