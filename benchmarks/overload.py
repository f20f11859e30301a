"""Offer a service ten times the load that it can serve, and look at what becomes of it.

    make environment
    .venv/bin/python benchmarks/overload.py [--seconds 30] [--framework fastapi] [--server uvicorn]

Models of 2 s, 5 ms and 50 µs a row are served in turn. First a few clients that wait for their
answers find out the most that the service can do. Then requests come at a fixed rate, ten times as
many, whether those before are answered or not (an open loop). The server has processor 0, the
clients have processor 1. Every answer is checked. The exit code is 1 where an answer was wrong,
failed or late, or a refusal did not say when to come back. Resident memory is shown at the start
and after each quarter of the time.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack

import aiohttp
import uvloop
from rich.console import Console
from rich.table import Table

from inferplate.template.variants import Variant
from inferplate_tools.client import HOST, binary_request, samples
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

SERVER_CPU, CLIENT_CPU = 0, 1
COLUMNS_IN, COLUMNS_OUT = 4, 3
PROBE_PAUSE = 0.1
MARGIN = 0.25
"""Seconds beyond the deadline that an answer may take on its way to a busy client."""
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Case:
    """A model and the requests that it gets. ``seconds`` a row, ``deadline`` in seconds."""

    name: str
    seconds: float
    rows: int
    deadline: float

    @property
    def settings(self) -> dict[str, str]:
        return {"SECONDS_PER_ROW": f"{self.seconds}", "SERVICE_REQUEST_TIMEOUT": f"{self.deadline}"}


CASES = (
    Case("2 s", 2, rows=1, deadline=10),
    Case("5 ms", 0.005, rows=1, deadline=1),
    Case("50 µs", 0.000_05, rows=256, deadline=1),
)


@dataclass
class Tally:
    """What clients saw. ``latencies`` of predictions and ``probes`` of liveness in seconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    processor_seconds: float = 0.0
    """Of the server, until the last request was sent."""
    wrong: int = 0
    without_retry_after: int = 0
    overdue: int = 0
    """Predictions that the model began after their deadline, by the service's own metrics."""
    in_time: int = 0
    """Predictions that came before the last request was sent."""

    def problems(self, deadline: float) -> list[str]:
        late = sum(seconds > deadline + MARGIN for seconds in self.latencies)
        failed = sum(self.statuses[key] for key in self.statuses.keys() - {"200", "503"})
        found = {
            "wrong answers": self.wrong,
            "late answers": late,
            "begun after the deadline": self.overdue,
            "failures": failed,
            "refusals without Retry-After": self.without_retry_after,
        }
        return [f"{count} {what}" for what, count in found.items() if count]


class Clients:
    """Clients of one service, each request on a connection that no other waits for."""

    def __init__(self, session: aiohttp.ClientSession, service: Service, case: Case) -> None:
        golden = Golden.of(service.project)
        body, self._headers = binary_request(
            [tensor.of_rows([0] * case.rows) for tensor in golden.inputs]
        )
        self._head = body[: -4 * case.rows * COLUMNS_IN]
        self._session = session
        self._service = service
        self._case = case
        self._base = f"http://{HOST}:{service.port}"
        self._url = f"{self._base}{golden.infer_path}"
        self._sent = 0
        self.tally = Tally()

    async def ask(self) -> None:
        """Send a request that no other is like, and note what becomes of it."""
        self._sent += 1
        number = float(self._sent % 2**22)
        rows = self._head + pack("<4f", number, number, number, number) * self._case.rows
        began = time.perf_counter()
        try:
            async with self._session.post(self._url, data=rows, headers=self._headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            self.tally.statuses[type(error).__name__] += 1
            return
        self.tally.statuses[str(answer.status)] += 1
        if answer.status == 200:
            self.tally.latencies.append(time.perf_counter() - began)
            expected = pack("<3f", *[2 * number] * COLUMNS_OUT) * self._case.rows
            self.tally.wrong += not body.endswith(expected)
        elif answer.status == 503:
            self.tally.without_retry_after += not answer.headers.get("Retry-After", "").isdigit()

    async def closed_loop(self, seconds: float, clients: int) -> float:
        """Have a few clients ask again as soon as they are answered; return requests a second."""

        async def ask_on() -> None:
            while time.perf_counter() < until:
                await self.ask()

        began = time.perf_counter()
        until = began + seconds
        await asyncio.gather(*(ask_on() for _ in range(clients)))
        return self.tally.statuses["200"] / (time.perf_counter() - began)

    async def open_loop(self, seconds: float, rate: float) -> None:
        """Send requests at a fixed rate, whether those before are answered or not."""
        probing = asyncio.create_task(self._probe())
        began, used = time.perf_counter(), processor_seconds(self._service.pid)
        async with asyncio.TaskGroup() as asking:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(began + number / rate - time.perf_counter())
                asking.create_task(self.ask())
            self.tally.in_time = self.tally.statuses["200"]
            self.tally.processor_seconds = processor_seconds(self._service.pid) - used
        probing.cancel()

    async def _probe(self) -> None:
        while True:
            self.tally.memory.append(resident(self._service.pid))
            began = time.perf_counter()
            async with self._session.get(f"{self._base}/v2/health/live") as answer:
                await answer.read()
            self.tally.probes.append(time.perf_counter() - began)
            await asyncio.sleep(PROBE_PAUSE)


@dataclass(frozen=True)
class Result:
    """Both halves of a case. ``maximum`` and ``offered`` in requests a second."""

    case: Case
    seconds: float
    maximum: float
    offered: float
    tally: Tally

    @property
    def goodput(self) -> float:
        return self.tally.in_time / self.seconds

    def record(self) -> dict[str, object]:
        tally = self.tally
        return {
            "model": self.case.name,
            "rows": self.case.rows,
            "deadline_seconds": self.case.deadline,
            "maximum": self.maximum,
            "offered": self.offered,
            "goodput": self.goodput,
            "statuses": dict(tally.statuses),
            "latency_p50_seconds": percentile(tally.latencies, 0.5),
            "latency_p99_seconds": percentile(tally.latencies, 0.99),
            "latency_max_seconds": max(tally.latencies, default=0),
            "live_p99_seconds": percentile(tally.probes, 0.99),
            "live_max_seconds": max(tally.probes, default=0),
            "processor": tally.processor_seconds / self.seconds,
            "memory_bytes": quarters(tally.memory),
            "wrong": tally.wrong,
            "without_retry_after": tally.without_retry_after,
            "overdue": tally.overdue,
            "problems": tally.problems(self.case.deadline),
        }


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder))
        variant = Variant(options.framework, "python", options.server)
        bench.place_artifact(variant)
        project = bench.project(variant)
        shutil.copy(
            Path(__file__).with_name("paced_runtime.py"), project / "src/service/runtime.py"
        )
        cases = [case for case in CASES if options.model in (None, case.name)]
        with _on_processor(SERVER_CPU):
            results = [_measure(project, case, options) for case in cases]
    _print(results)
    if options.json:
        options.json.write_text(json.dumps([result.record() for result in results], indent=2))
    sys.exit(any(result.record()["problems"] for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30, help="of each half of a measurement")
    parser.add_argument("--times", type=float, default=10, help="what it can serve")
    parser.add_argument("--framework", default="fastapi")
    parser.add_argument("--server", default="uvicorn")
    parser.add_argument("--model", choices=[case.name for case in CASES])
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    return parser.parse_args()


def _measure(project: Path, case: Case, options: argparse.Namespace) -> Result:
    with Service(project, sys.executable, case.settings) as service:
        service.wait_ready()
        with _on_processor(CLIENT_CPU):
            result = uvloop.run(_load(service, case, options))
        result.tally.overdue = overdue(service.port, case.deadline)
        service.terminate()
        service.wait_exit()
    return result


async def _load(service: Service, case: Case, options: argparse.Namespace) -> Result:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        few = Clients(session, service, case)
        maximum = await few.closed_loop(options.seconds, clients=3)
        many = Clients(session, service, case)
        await many.open_loop(options.seconds, options.times * maximum)
    return Result(case, options.seconds, maximum, options.times * maximum, many.tally)


@contextmanager
def _on_processor(number: int) -> Iterator[None]:
    """Stay on one processor, where there is a choice; what is started meanwhile stays there too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number} if number < (os.cpu_count() or 1) else before)
    yield
    os.sched_setaffinity(0, before)


def overdue(port: int, deadline: float) -> int:
    """Count the predictions that waited in the queue for longer than their deadline."""
    buckets = samples(port, "inference_queue_wait_seconds_bucket")

    def at_most(seconds: str) -> float:
        return sum(count for labels, count in buckets if f'le="{seconds}"' in labels)

    return int(at_most("+Inf") - at_most(f"{deadline:.1f}"))


def resident(pid: int) -> int:
    """Read the bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int) -> float:
    """Read the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quarters(values: Sequence[int]) -> list[int]:
    """Pick the first value, those after each quarter, and so the last."""
    return [values[quarter * (len(values) - 1) // 4] for quarter in range(5)]


def percentile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=1000)[int(share * 1000) - 1] if len(values) > 1 else 0


def _print(results: Sequence[Result]) -> None:
    table = Table(title="requests a second, and seconds")
    for column in ("model", "rows", "most", "offered", "answered", "refused", "else"):
        table.add_column(column, justify="right")
    for column in (
        "deadline",
        "p50",
        "p99",
        "max",
        "live p99",
        "live max",
        "CPU",
        "MiB by quarter",
    ):
        table.add_column(column, justify="right")
    for result in results:
        case, tally, record = result.case, result.tally, result.record()
        other = {key: tally.statuses[key] for key in tally.statuses.keys() - {"200", "503"}}
        table.add_row(
            case.name,
            str(case.rows),
            f"{result.maximum:.2f}",
            f"{result.offered:.1f}",
            f"{result.goodput:.2f} ({result.goodput / result.maximum:.0%})",
            str(tally.statuses["503"]),
            str(other or 0),
            f"{case.deadline:g}",
            f"{record['latency_p50_seconds']:.3f}",
            f"{record['latency_p99_seconds']:.3f}",
            f"{record['latency_max_seconds']:.3f}",
            f"{record['live_p99_seconds']:.3f}",
            f"{record['live_max_seconds']:.3f}",
            f"{record['processor']:.0%}",
            " ".join(f"{size / MEBIBYTE:.0f}" for size in quarters(tally.memory)),
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for result in results:
        for problem in result.tally.problems(result.case.deadline):
            console.print(f"{result.case.name}: {problem}")


if __name__ == "__main__":
    main()
