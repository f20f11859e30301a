"""Turns at work that keeps the event loop from everything else while it lasts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from service.core.errors import RequestCancelled
from service.core.request_context import RequestContext

_SHORT_PAUSE: Final = 0.002
"""Seconds in which the loop can do a step of what waits, between two pieces of one task."""
_PAUSE: Final = 0.01
"""Seconds in which the loop can accept a connection, read a request from it and answer it."""


async def pause(seconds: float = _SHORT_PAUSE) -> None:
    """Let the event loop do what waits, before a long task goes on."""
    await asyncio.sleep(seconds)


class Turns:
    """Lets one request at a time work, in the order of arrival."""

    def __init__(self) -> None:
        self._lock: Final = asyncio.Lock()

    @property
    def taken(self) -> bool:
        """Whether a request has its turn."""
        return self._lock.locked()

    async def _take(self, context: RequestContext | None) -> None:
        if context is None:
            await self._lock.acquire()
        else:
            if context.cancelled:
                raise RequestCancelled
            async with context.in_time():
                await self._lock.acquire()
        try:
            # Also where nobody waited: others may come while this one works.
            await pause(_SHORT_PAUSE if context is None else _PAUSE)
        except asyncio.CancelledError:
            self._lock.release()
            raise

    @asynccontextmanager
    async def turn(
        self, context: RequestContext | None = None, *, until_next_step: bool = False
    ) -> AsyncIterator[Callable[[], None]]:
        """Wait for a turn, and end it with the block; the function that the block gets ends it too.

        ``until_next_step``: what the task does after the block, until it waits, is in the turn.

        Raises:
            DeadlineExceeded: the deadline of the request passed meanwhile.
            RequestCancelled: its client left meanwhile.
        """
        await self._take(context)
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._lock.release()

        try:
            yield end
        finally:
            if until_next_step:
                asyncio.get_running_loop().call_soon(end)
            else:
                end()
