"""The one thread of a process in which the model is loaded and runs."""

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

THREAD_NAME: Final = "model"

T = TypeVar("T")


class ModelThread:
    """Runs calls one after the other, off the event loop.

    It is a daemon thread and not an executor: a model that never returns must not keep the process
    alive, and some runtimes store their settings per thread.
    """

    def __init__(self) -> None:
        self._calls: Final = queue.SimpleQueue[Callable[[], None] | None]()
        threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()

    def call(self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a function in the thread; the future belongs to the caller's event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                outcome = function(*args)
            except Exception as error:
                _deliver(loop, future, future.set_exception, error)
            else:
                _deliver(loop, future, future.set_result, outcome)

        self._calls.put(run)
        return future

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function in the thread that delivers its own outcome and never raises."""
        self._calls.put(functools.partial(function, *args))

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
