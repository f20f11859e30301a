"""Which connections are closed when there are too many, or when a head takes too long."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.ops import connections
from service.ops.connections import Connections, connection_limit
from service.ops.settings import Settings

pytestmark = pytest.mark.anyio


class Transport(asyncio.Transport):
    """A transport that only knows whether it was closed."""

    closed = False

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def opened() -> Callable[[Connections], Transport]:
    def opened(tracked: Connections) -> Transport:
        transport = Transport()
        tracked.opened(transport)
        return transport

    return opened


Opened = Callable[[Connections], Transport]


async def test_the_oldest_without_a_request_gives_way(opened: Opened) -> None:
    tracked = Connections(Settings(max_connections=3))
    first, second = opened(tracked), opened(tracked)
    for transport in (first, second):
        tracked.busy(transport)
    tracked.idle(second)
    silent, later = opened(tracked), opened(tracked)
    assert [first.closed, second.closed, silent.closed, later.closed] == [False, False, True, False]
    tracked.busy(later)
    last = opened(tracked)
    assert [first.closed, second.closed, later.closed, last.closed] == [False, True, False, False]
    tracked.busy(last)
    refused = opened(tracked)
    assert refused.closed
    tracked.closed(first)
    assert not opened(tracked).closed


async def test_upgraded_connections_count_until_they_are_closed(opened: Opened) -> None:
    tracked = Connections(Settings(max_connections=1))
    upgraded = opened(tracked)
    tracked.upgraded(upgraded)
    assert opened(tracked).closed
    assert not upgraded.closed
    upgraded.abort()
    assert not opened(tracked).closed


async def test_a_late_head_ends_the_connection(opened: Opened) -> None:
    tracked = Connections(Settings(header_timeout=1))
    silent, busy, late = opened(tracked), opened(tracked), opened(tracked)
    for transport in (busy, late):
        tracked.busy(transport)
    await asyncio.sleep(0.5)
    tracked.receiving(silent)  # more of the same head: the time goes on
    tracked.idle(late)
    tracked.receiving(late)
    await asyncio.sleep(0.7)
    assert (silent.closed, busy.closed, late.closed) == (True, False, False)
    await asyncio.sleep(0.5)
    assert (busy.closed, late.closed) == (False, True)


async def test_those_without_a_request_are_closed_at_the_end(opened: Opened) -> None:
    tracked = Connections(Settings())
    silent, idle, busy = opened(tracked), opened(tracked), opened(tracked)
    tracked.busy(busy)
    tracked.busy(idle)
    tracked.idle(idle)
    tracked.close_waiting()
    assert (silent.closed, idle.closed, busy.closed) == (True, True, False)


@pytest.mark.parametrize(
    ("soft", "hard", "setting", "limit", "raised"),
    [
        (1_024, 20_000, 0, 19_872, 20_000),
        (1_024, 2**30, 0, 65_408, 65_536),
        (64, 64, 0, 16, None),
        (1_024, 1_024, 100, 100, None),
        (1_024, 1_024, 5_000, 896, None),
    ],
)
def test_limit_by_the_file_descriptors(
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    setting: int,
    limit: int,
    raised: int | None,
) -> None:
    resource: Any = pytest.importorskip("resource")
    set_to: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits[0]))
    assert connection_limit(Settings(max_connections=setting)) == limit
    assert set_to == ([raised] if raised else [])


def test_limit_without_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "resource", None)
    assert connection_limit(Settings(max_connections=7)) == 7
