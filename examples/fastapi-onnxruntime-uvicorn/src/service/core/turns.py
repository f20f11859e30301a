"""Turns at work that keeps the event loop from everything else while it lasts."""

import asyncio
import math
from collections.abc import AsyncIterator
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
        self._holder: RequestContext | None = None

    @property
    def taken(self) -> bool:
        """Whether a request has its turn."""
        return self._lock.locked()

    @asynccontextmanager
    async def turn(
        self,
        context: RequestContext | None = None,
        *,
        until_next_step: bool = False,
        at_once: bool = False,
    ) -> AsyncIterator[None]:
        """Wait for a turn and end it with the block. A request that has its turn keeps it.

        ``until_next_step``: what the task does after the block, until it waits, is in the turn.
        ``at_once``: the work leaves the event loop to others, so that it begins without a pause.

        Raises:
            DeadlineExceeded: the deadline of the request passed meanwhile.
            RequestCancelled: its client left meanwhile.
        """
        holder = context or RequestContext(math.inf)  # who works without one is someone too
        if self._holder is holder:
            yield
            return
        await self._take(context, at_once=at_once)
        self._holder = holder
        try:
            yield
        finally:
            if until_next_step:
                asyncio.get_running_loop().call_soon(self.end, holder)
            else:
                self.end(holder)

    def end(self, context: RequestContext | None) -> None:
        """End the turn of a request before its block ends, if it has one."""
        if context is not None and self._holder is context:
            self._holder = None
            self._lock.release()

    async def _take(self, context: RequestContext | None, *, at_once: bool) -> None:
        if context is None:
            await self._lock.acquire()
        else:
            if context.cancelled:
                raise RequestCancelled
            async with context.in_time():
                await self._lock.acquire()
        if at_once:
            return
        try:
            # Also where nobody waited: others may come while this one works.
            await pause(_SHORT_PAUSE if context is None else _PAUSE)
        except asyncio.CancelledError:
            self._lock.release()
            raise
