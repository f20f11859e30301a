"""Ask a service for a long time, the way the world does, and look for what it does not give back.

    make environment
    .venv/bin/python benchmarks/soak.py [--minutes 60] [--framework fastapi] [--server uvicorn]

Good, invalid, oversized, slow, stalled, late and deserting clients ask an emitted service side by
side. After a warm-up, and again at the end, the traffic stops, and resident memory, open files and
threads of the service's processes are read, and its own count of what waits and is in flight.
They must be back where they were, memory within a margin, and every answer the right one.
"""

import argparse
import asyncio
import itertools
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table

from inferplate.errors import CheckFailed, InferplateError
from inferplate.live import Golden, in_flight
from inferplate.matrix import Variant, axis_choices, read_questions, select, variants
from inferplate.running import Service
from inferplate.source import template_root
from inferplate.wire import (
    HOST,
    Response,
    alike,
    binary_request,
    decode_outputs,
    post_json,
    samples,
)
from inferplate.workbench import Workbench

WARM_UP_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 30.0
"""The longest wait, once the traffic has stopped, for the service to be back where it was."""
STILL_SECONDS: Final = 6
"""Without a change; more than servers keep the connection of a client that left."""
REQUEST_TIMEOUT: Final = 5.0
BODY_LIMIT: Final = 2**20
SLOW_PAUSE: Final = 0.3
ROUNDING: Final = 1e-5
MIB: Final = 2**20
JSON: Final = {"Content-Type": "application/json"}

Ask = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Kind:
    """Clients that do the same again and again.

    ``ask`` returns the outcome, ``good`` are those that are right; ``pause`` in seconds between
    two requests of one of the ``clients``.
    """

    name: str
    ask: Ask
    good: tuple[str, ...]
    clients: int = 1
    pause: float = 0.05


@dataclass(frozen=True)
class Level:
    """What a service holds: bytes, files and threads of all its processes, rows and requests."""

    memory: int
    files: int
    threads: int
    queued: int
    in_flight: int

    @classmethod
    def of(cls, service: Service) -> "Level":
        """Read it; requests in flight are without the one that asks."""
        folders = [Path(f"/proc/{pid}") for pid in process_tree(service.pid)]
        status = [(folder / "status").read_text() for folder in folders]
        return cls(
            sum(_field(text, "VmRSS") * 1024 for text in status),
            sum(len(list((folder / "fd").iterdir())) for folder in folders),
            sum(_field(text, "Threads") for text in status),
            int(sum(value for _, value in samples(service.port, "inference_queue_rows"))),
            int(in_flight(service.port)) - 1,
        )

    def __str__(self) -> str:
        return (
            f"{self.memory / MIB:.1f} MiB, {self.files} open files, {self.threads} threads, "
            f"{self.queued} rows queued, {self.in_flight} requests in flight"
        )


class Traffic:
    """All kinds of clients, asking from start to stop.

    ``outcomes`` counts by kind and outcome.
    """

    def __init__(self, kinds: list[Kind]) -> None:
        self.outcomes: Final = Counter[tuple[str, str]]()
        self._kinds: Final = kinds
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._client(kind))
            for kind in self._kinds
            for _ in range(kind.clients)
        ]

    async def stop(self) -> None:
        """Let every client finish what it does."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def wrong(self) -> Iterator[str]:
        """Describe outcomes that are not right."""
        good = {kind.name: kind.good for kind in self._kinds}
        for (name, outcome), count in sorted(self.outcomes.items()):
            if outcome not in good[name]:
                expected = " or ".join(good[name])
                yield f"{count} {name!r} requests ended with {outcome} instead of {expected}"
        for name in good.keys() - {name for name, _ in self.outcomes}:
            yield f"no {name!r} request was sent"

    async def _client(self, kind: Kind) -> None:
        while not self._stopping:
            self.outcomes[kind.name, await kind.ask()] += 1
            await asyncio.sleep(kind.pause)


def main() -> None:
    options = _options()
    try:
        variant = _variant(options)
        with tempfile.TemporaryDirectory() as folder:
            bench = Workbench(Path(folder))
            bench.place_artifact(variant)
            settings = {
                "SERVICE_WORKERS": str(options.workers),
                "SERVICE_THREADS": "1",
                "SERVICE_REQUEST_TIMEOUT": f"{REQUEST_TIMEOUT:g}",
                "SERVICE_MAX_BODY_BYTES": str(BODY_LIMIT),
            }
            with Service(bench.project(variant), bench.python, settings) as service:
                service.wait_ready()
                problems = asyncio.run(soak(service, options))
                service.terminate()
                service.wait_exit()
    except (CheckFailed, InferplateError) as error:
        sys.exit(f"soak: {error}")
    if problems:
        sys.exit(f"soak: {'; '.join(problems)}")


async def soak(service: Service, options: argparse.Namespace) -> list[str]:
    """Ask the service for the chosen time, print how it went, and return what is wrong."""
    seconds = options.minutes * 60
    async with asking(service):
        await asyncio.sleep(WARM_UP_SECONDS)
    before = await settled(service)
    print(f"after {WARM_UP_SECONDS:g} s of warm-up: {before}", flush=True)
    began = time.monotonic()
    ticks = max(10, math.ceil(seconds / 60))
    async with asking(service) as traffic:
        for tick in range(1, ticks + 1):
            await asyncio.sleep(began + seconds * tick / ticks - time.monotonic())
            level = await asyncio.to_thread(Level.of, service)
            minutes = seconds * tick / ticks / 60
            print(f"{minutes:5.1f} min, {traffic.outcomes.total()} requests: {level}", flush=True)
    after = await settled(service, before)
    _print(traffic, before, after)
    return [*traffic.wrong(), *leaks(before, after, options.memory_margin)]


@asynccontextmanager
async def asking(service: Service) -> AsyncIterator[Traffic]:
    """Have every kind of client ask the service; all connections are closed at the end."""
    base = f"http://{HOST}:{service.port}"
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(limit=0)) as session:
        traffic = Traffic(kinds(service, session))
        traffic.start()
        yield traffic
        await traffic.stop()


def leaks(before: Level, after: Level, margin: float) -> Iterator[str]:
    """Describe what a service did not give back. ``margin``: percent that memory may grow."""
    if after.memory > before.memory * (1 + margin / 100):
        yield (
            f"resident memory grew from {before.memory / MIB:.1f} to {after.memory / MIB:.1f} MiB, "
            f"more than {margin:g} %"
        )
    if after.files > before.files:
        yield f"open files grew from {before.files} to {after.files}"
    if after.threads > before.threads:
        yield f"threads grew from {before.threads} to {after.threads}"
    if after.queued:
        yield f"{after.queued} rows are left in the queue"
    if after.in_flight:
        yield f"{after.in_flight} requests still count as in flight"


async def settled(service: Service, target: Level | None = None) -> Level:
    """Read the level of a service that nobody asks, once it holds still and exceeds no `target`.

    The last reading is returned when that does not happen in `SETTLE_SECONDS`.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    previous, still = None, 0
    while True:
        await asyncio.sleep(1)
        level = await asyncio.to_thread(Level.of, service)
        counts = level.files, level.threads, level.queued, level.in_flight
        still = still + 1 if counts == previous else 0
        previous = counts
        exceeds = target is not None and any(leaks(target, level, math.inf))
        if (still >= STILL_SECONDS and not exceeds) or time.monotonic() > deadline:
            return level


def kinds(service: Service, session: aiohttp.ClientSession) -> list[Kind]:
    """Prepare every kind of client, with one answer to each good request as the standard."""
    golden = Golden.of(service.project)
    port, infer_path = service.port, golden.infer_path
    predictions = post_json(port, "/predict", golden.typed_request).json()["predictions"]
    outputs = decode_outputs(post_json(port, infer_path, golden.infer_request))

    def predicts(response: Response) -> bool:
        return alike(response.json()["predictions"], predictions, ROUNDING)

    def infers(response: Response) -> bool:
        found: dict[str, Any] = decode_outputs(response)
        return alike(found, outputs, ROUNDING)

    typed = json.dumps(golden.typed_request).encode()
    infer = json.dumps(golden.infer_request).encode()
    late = json.dumps({**golden.infer_request, "parameters": {"timeout": 1}}).encode()
    bad_values = json.dumps({"instances": [{"unknown": 1}]}).encode()
    binary, headers = binary_request(golden.inputs)
    short = partial(post, session, infer_path, binary[:-1], headers)
    ask = partial(post, session)
    too_late = ("504", "503", "200")  # it passed, it would pass in the queue, nothing was before it
    return [
        Kind("typed", partial(ask, "/predict", typed, JSON, predicts), ("200",), 2, 0.01),
        Kind("JSON tensors", partial(ask, infer_path, infer, JSON, infers), ("200",), 2, 0.01),
        Kind(
            "binary tensors", partial(ask, infer_path, binary, headers, infers), ("200",), 2, 0.01
        ),
        Kind("slow body", partial(post_slowly, session, typed, predicts), ("200",), 4),
        Kind("malformed", partial(ask, "/predict", typed[:-1], JSON), ("400",)),
        Kind("wrong values", partial(ask, "/predict", bad_values, JSON), ("422",)),
        Kind("short tensors", short, ("400",)),
        Kind("unknown path", partial(ask, "/nowhere", typed, JSON), ("404",)),
        Kind("deadline of 1 µs", partial(ask, infer_path, late, JSON), too_late),
        Kind("declared too large", partial(declare_too_much, port), ("413",)),
        Kind("sent too large", partial(send_too_much, port), ("413",), pause=0.2),
        Kind("stalled body", partial(stall, port, typed), ("504",), 8),
        Kind("left amid the body", partial(leave, port, typed, len(typed) // 2), ("left",), 2),
        Kind("left before the answer", partial(leave, port, typed, len(typed)), ("left",), 2),
        Kind("left after connecting", partial(leave, port, b"", None), ("left",)),
    ]


async def post(
    session: aiohttp.ClientSession,
    path: str,
    body: bytes | AsyncIterator[bytes],
    headers: dict[str, str],
    accepts: Callable[[Response], bool] = lambda _: True,
) -> str:
    """Post as a good client does; the outcome is the status, unless the answer is wrong."""
    try:
        async with session.post(path, data=body, headers=headers) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            response = Response(answer.status, found, await answer.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        return repr(error)
    if response.status == 200 and not accepts(response):
        return f"a wrong answer, {response.body[:100]!r}"
    return str(response.status)


async def post_slowly(
    session: aiohttp.ClientSession, body: bytes, accepts: Callable[[Response], bool]
) -> str:
    async def halves() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        await asyncio.sleep(SLOW_PAUSE)
        yield body[len(body) // 2 :]

    return await post(session, "/predict", halves(), JSON, accepts)


async def declare_too_much(port: int) -> str:
    return await converse(port, _head(f"Content-Length: {BODY_LIMIT + 1}"))


async def send_too_much(port: int) -> str:
    chunk = b"%x\r\n%s\r\n" % (BODY_LIMIT + 1, b" " * (BODY_LIMIT + 1))
    return await converse(port, _head("Transfer-Encoding: chunked") + chunk)


async def stall(port: int, body: bytes) -> str:
    return await converse(port, _head(f"Content-Length: {len(body)}") + body[:-1])


async def converse(port: int, request: bytes) -> str:
    """Send some of a request, and return the status of the answer that comes all the same."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT * 4)
        finally:
            writer.close()
    except OSError as error:
        return repr(error)
    return line.split()[1].decode() if line else "no answer"


async def leave(port: int, body: bytes, sent: int | None) -> str:
    """Send so much of a body, or not even its head, and close the connection."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
        if sent is not None:
            writer.write(_head(f"Content-Length: {len(body)}") + body[:sent])
        await asyncio.sleep(next(_delays))
        (writer.transport.abort if next(_resets) else writer.close)()
    except OSError as error:
        return repr(error)
    return "left"


_delays: Final = itertools.cycle((0.0, 0.001, 0.1))
_resets: Final = itertools.cycle((True, False))


def process_tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(found for child in children for found in process_tree(child))]


def _field(status: str, name: str) -> int:
    """Read a number from the text of ``/proc/<pid>/status``."""
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def _head(header: str) -> bytes:
    lines = "POST /predict HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", header
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _print(traffic: Traffic, before: Level, after: Level) -> None:
    outcomes = Table("client", "outcome", "requests")
    for (name, outcome), count in sorted(traffic.outcomes.items()):
        outcomes.add_row(name, outcome, str(count))
    levels = Table("", "after warm-up", "at the end")
    for label, start, end in (
        ("resident memory, MiB", f"{before.memory / MIB:.1f}", f"{after.memory / MIB:.1f}"),
        ("open files", before.files, after.files),
        ("threads", before.threads, after.threads),
        ("rows queued", before.queued, after.queued),
        ("requests in flight", before.in_flight, after.in_flight),
    ):
        levels.add_row(label, str(start), str(end))
    console = Console()
    console.print(outcomes, levels)


def _variant(options: argparse.Namespace) -> Variant:
    questions = read_questions(template_root())
    wanted = {axis: [getattr(options, axis)] for axis in ("framework", "server")}
    wanted["runtime"] = ["onnxruntime"]
    return select(variants(questions), wanted, axis_choices(questions))[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=_positive, default=60)
    parser.add_argument("--framework", default="fastapi")
    parser.add_argument("--server", default="uvicorn")
    parser.add_argument("--workers", type=int, choices=range(1, 65), default=1, metavar="NUMBER")
    parser.add_argument(
        "--memory-margin", type=_positive, default=10, help="percent that memory may grow"
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


if __name__ == "__main__":
    main()
