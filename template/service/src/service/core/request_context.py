"""The context of one request: who asks, until when, and whether the answer is still wanted."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from service.core.errors import DeadlineExceeded, RequestCancelled


class RequestContext:
    """Travels with a request from its arrival to the model's queue.

    ``deadline``: when the answer is due, on the clock of ``time.monotonic``. A request may bring it
    forward, but never push it back. ``large``: whether the work on it would hold up the event loop,
    so that it waits for its turn (see `service.core.turns`).
    """

    __slots__ = (
        "_callbacks",
        "arrival",
        "cancelled",
        "deadline",
        "large",
        "request_id",
        "trace_id",
    )

    def __init__(self, timeout: float, request_id: str = "", trace_id: str = "") -> None:
        self.request_id: Final = request_id
        self.trace_id: Final = trace_id
        self.arrival: Final = time.monotonic()
        self.deadline = self.arrival + timeout
        self.cancelled = False
        self.large = False
        self._callbacks: Final[set[Callable[[], None]]] = set()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.deadline - time.monotonic()

    def shorten(self, timeout: float) -> None:
        """Move the deadline to ``timeout`` seconds after arrival, unless it is earlier already."""
        self.deadline = min(self.deadline, self.arrival + timeout)

    def cancel(self) -> None:
        """Record that nobody waits for the answer any more, and tell whoever works on it."""
        self.cancelled = True
        for callback in tuple(self._callbacks):
            callback()

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Cancel what a block awaits when the deadline passes or the request is cancelled.

        Raises:
            DeadlineExceeded: the deadline passed.
            RequestCancelled: the client left.
        """
        timeout = asyncio.timeout(0 if self.cancelled else self.remaining)

        def leave() -> None:
            if not timeout.expired():
                timeout.reschedule(0)

        try:
            async with timeout:
                self.add_cancel_callback(leave)
                try:
                    yield
                finally:
                    self.remove_cancel_callback(leave)
        except TimeoutError:
            if not timeout.expired():  # the block raised it
                raise
            raise (RequestCancelled if self.cancelled else DeadlineExceeded) from None

    def add_cancel_callback(self, callback: Callable[[], None]) -> None:
        """Call a function when the request is cancelled."""
        self._callbacks.add(callback)

    def remove_cancel_callback(self, callback: Callable[[], None]) -> None:
        """Undo `add_cancel_callback`."""
        self._callbacks.discard(callback)
