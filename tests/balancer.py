"""A load balancer for tests: connections go, in turn, to the instances that say they are ready."""

import asyncio
import contextlib
import itertools
from collections import Counter
from typing import Any, Final, Self

import aiohttp

from inferplate_tools.client import HOST

_CHUNK: Final = 64 * 2**10


class Balancer:
    """Forwards connections to instances, each a port of this machine.

    It works as those in front of real services do: an instance gets no new connections once so
    many readiness probes in a row have failed. It never sends anything twice; a connection that an
    instance refuses is closed, and lost for its client.

    ``instances``: the ports, which may be changed at any time. ``probe``: the readiness probe of a
    container, as Kubernetes takes it.
    """

    def __init__(self, instances: list[int], probe: dict[str, Any]) -> None:
        self.instances: Final = instances
        self._probe_path: Final[str] = probe["httpGet"]["path"]
        self._period: Final[float] = probe["periodSeconds"]
        self._timeout: Final[float] = probe["timeoutSeconds"]
        self._failures_allowed: Final[int] = probe["failureThreshold"]
        self._failures: Final = Counter[int]()
        self._ready: Final = set[int]()
        self._probed: Final = asyncio.Condition()
        self._turn: Final = itertools.count()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._server = await asyncio.start_server(self._forward, HOST, 0)
        self._probing = asyncio.create_task(self._probe_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._probing.cancel()
        self._server.close()
        await self._session.close()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def wait_ready(self) -> None:
        """Wait until a probe of each instance has succeeded."""
        async with self._probed:
            await self._probed.wait_for(lambda: self._ready.issuperset(self.instances))

    async def _probe_all(self) -> None:
        while True:
            await asyncio.gather(*map(self._probe, self.instances))
            async with self._probed:
                self._probed.notify_all()
            await asyncio.sleep(self._period)

    async def _probe(self, port: int) -> None:
        try:
            async with self._session.get(f"http://{HOST}:{port}{self._probe_path}") as response:
                ready = response.status == 200
        except (TimeoutError, aiohttp.ClientError):
            ready = False
        self._failures[port] = 0 if ready else self._failures[port] + 1
        if ready:
            self._ready.add(port)
        elif self._failures[port] >= self._failures_allowed:
            self._ready.discard(port)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = [port for port in self.instances if port in self._ready]
        try:
            port = ready[next(self._turn) % len(ready)]
            onward_reader, onward_writer = await asyncio.open_connection(HOST, port)
        except (ZeroDivisionError, OSError):
            writer.transport.abort()
            return
        sending = asyncio.create_task(_copy(reader, onward_writer))
        await _copy(onward_reader, writer)
        sending.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until there are no more, then close."""
    with contextlib.suppress(ConnectionError), contextlib.closing(writer):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
