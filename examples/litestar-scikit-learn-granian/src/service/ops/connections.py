"""The open connections of a worker: how many there may be, and which of them are closed early."""

import asyncio
from typing import Final

from service.ops.settings import Settings

try:
    import resource
except ImportError:  # Windows, where sockets are no file descriptors
    resource = None  # type: ignore[assignment]

_MOST_DESCRIPTORS: Final = 65_536
_RESERVE: Final = 128
"""File descriptors for what else is open, and for many new connections at once."""


def connection_limit(settings: Settings) -> int:
    """Raise the limit of file descriptors, and return how many connections a worker may have."""
    limit = _descriptors()
    limit -= min(limit * 3 // 4, _RESERVE)
    return min(limit, settings.max_connections or limit)


def _descriptors() -> int:
    """Raise the soft limit of file descriptors to the hard limit, and return what it is now."""
    if resource is None:
        return _MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY:
        return _MOST_DESCRIPTORS
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS allows less than its hard limit says
            return soft
    return max(soft, wanted)


class Connections:
    """The connections of one event loop.

    One that waits too long for the head of a request is closed. So is one that waits, when there
    are too many: first those that have sent no request yet or only a part of one, then the idle
    ones, each from the oldest on.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit: Final = connection_limit(settings)
        self._timeout: Final = settings.header_timeout
        self._open: Final = set[asyncio.WriteTransport]()
        self._receiving: Final = dict[asyncio.WriteTransport, float]()
        """Since when a connection waits for the end of a head. In this order."""
        self._idle: Final = dict[asyncio.WriteTransport, None]()
        self._upgraded: Final = set[asyncio.WriteTransport]()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, transport: asyncio.WriteTransport) -> None:
        """Count a new connection, and close another one if there are too many."""
        self._open.add(transport)
        self.receiving(transport)
        if len(self._open) > self._limit:
            self._forget_upgraded()
        if len(self._open) > self._limit:
            first = next(iter(self._receiving))
            self._close(next(iter(self._idle), first) if first is transport else first)

    def receiving(self, transport: asyncio.WriteTransport) -> None:
        """Start the time for the head of a request, unless it runs already."""
        if transport in self._receiving or transport not in self._open:
            return
        self._idle.pop(transport, None)
        loop = asyncio.get_running_loop()
        self._receiving[transport] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._close_late)

    def busy(self, transport: asyncio.WriteTransport) -> None:
        """Leave the connection alone while a request is answered."""
        self._receiving.pop(transport, None)
        self._idle.pop(transport, None)

    def idle(self, transport: asyncio.WriteTransport) -> None:
        """Note that a connection waits for another request; the server limits the time for it."""
        if transport in self._open:
            self._idle[transport] = None

    def upgraded(self, transport: asyncio.WriteTransport) -> None:
        """Leave the connection alone from now on. `closed` need not be called."""
        self.busy(transport)
        self._upgraded.add(transport)

    def closed(self, transport: asyncio.WriteTransport) -> None:
        """Forget a connection."""
        self.busy(transport)
        self._open.discard(transport)

    def close_waiting(self) -> None:
        """Close every connection without a request that is answered."""
        for transport in (*self._receiving, *self._idle):
            self._close(transport)

    def _close(self, transport: asyncio.WriteTransport) -> None:
        self.closed(transport)
        transport.abort()

    def _close_late(self) -> None:
        self._timer = None
        self._forget_upgraded()
        loop = asyncio.get_running_loop()
        now = loop.time()
        for transport, since in tuple(self._receiving.items()):
            remaining = since + self._timeout - now
            if remaining > 0:
                self._timer = loop.call_later(remaining, self._close_late)
                break
            self._close(transport)

    def _forget_upgraded(self) -> None:
        closed = {transport for transport in self._upgraded if transport.is_closing()}
        self._upgraded.difference_update(closed)
        self._open.difference_update(closed)
