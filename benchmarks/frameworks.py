"""Measure the three frameworks side by side, and against the FastAPI service of the tutorials.

    make environment
    .venv/bin/python benchmarks/frameworks.py [--rounds 5] [--seconds 3] [--connections 16]

Every service runs alone on processor 0, wrk (which must be installed) on processor 1. Rounds are
interleaved: each asks every service once, in turn, and ratios are taken within a round. What is
compared is the CPU time of the server's process for a request; answers are checked before.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inferplate.matrix import Variant
from inferplate.running import free_port, wait_until
from inferplate.workbench import Workbench, project_environment

FRAMEWORKS = ("fastapi", "litestar", "ninja")
NAIVE = "naive FastAPI"
SERVER_CPU, CLIENT_CPU = 0, 1
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
TENSOR = {"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
BODIES = {
    "/predict": json.dumps({"instances": [FLOWER]}),
    "/v2/models/iris/infer": json.dumps({"inputs": [TENSOR]}),
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Contender:
    """A running service and the endpoint of it that is asked."""

    name: str
    path: str
    port: int
    pid: int


@dataclass(frozen=True)
class Sample:
    """What one round showed of a contender; ``cpu`` in microseconds a request."""

    requests_per_second: float
    cpu: float


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, {SERVER_CPU})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        contenders = list(_start_all(Workbench(Path(folder)), stack))
        samples: dict[Contender, list[Sample]] = {contender: [] for contender in contenders}
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("measuring", total=options.rounds * len(contenders))
            for _ in range(options.rounds):
                for contender in contenders:
                    samples[contender].append(_measure(contender, options))
                    progress.advance(task)
    _print(samples)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("wrk is not installed")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two processors are needed")
    return options


def _start_all(bench: Workbench, stack: ExitStack) -> Iterator[Contender]:
    for framework in FRAMEWORKS:
        variant = Variant(framework, "onnxruntime", "uvicorn")
        bench.place_artifact(variant)
        port, pid = stack.enter_context(_running(bench.project(variant), ["-m", "service"]))
        for path in BODIES:
            yield Contender(framework, path, port, pid)
    naive = bench.root / "naive"
    naive.mkdir()
    shutil.copy(Path(__file__).with_name("naive.py"), naive)
    shutil.copytree(bench.artifact(variant), naive / "models")
    command = ["-m", "uvicorn", "naive:app", "--no-access-log", "--log-level", "warning"]
    port, pid = stack.enter_context(_running(naive, command))
    yield Contender(NAIVE, "/predict", port, pid)


@contextmanager
def _running(project: Path, arguments: list[str]) -> Iterator[tuple[int, int]]:
    port = free_port()
    if "uvicorn" in arguments:
        arguments = [*arguments, "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, *arguments],
        cwd=project,
        env=project_environment({"SERVICE_PORT": str(port)}),
        stdout=subprocess.DEVNULL,
    )
    try:
        if not wait_until(lambda: _status(port, "GET", "/v2/health/ready") == 200, 60):
            sys.exit(f"{project.name} is not ready")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _measure(contender: Contender, options: argparse.Namespace) -> Sample:
    if _status(contender.port, "POST", contender.path, BODIES[contender.path]) != 200:
        sys.exit(f"{contender.name} does not answer {contender.path}")
    script = Path(tempfile.gettempdir(), f"wrk-{os.getpid()}.lua")
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = [[{BODIES[contender.path]}]]\n"
    )
    before, began = _cpu_seconds(contender.pid), time.perf_counter()
    url = f"http://127.0.0.1:{contender.port}{contender.path}"
    command = [
        "wrk",
        "-t1",
        f"-c{options.connections}",
        f"-d{options.seconds}",
        "-s",
        str(script),
        url,
    ]
    done = subprocess.run(  # noqa: S603 - wrk, with our own arguments
        ["taskset", "-c", str(CLIENT_CPU), *command],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, cpu = time.perf_counter() - began, _cpu_seconds(contender.pid) - before
    script.unlink()
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(f"{contender.name} {contender.path}:\n{done.stdout}")
    found = re.search(r"(\d+) requests in", done.stdout)
    count = int(found[1]) if found else 0
    return Sample(count / seconds, cpu / count * 1e6)


def _status(port: int, method: str, path: str, body: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _print(samples: dict[Contender, list[Sample]]) -> None:
    (naive,) = (found for contender, found in samples.items() if contender.name == NAIVE)
    table = Table("service", "endpoint", "requests/s", "CPU µs/request", "naive CPU / this")
    for contender, found in samples.items():
        ratios = [base.cpu / own.cpu for base, own in zip(naive, found, strict=True)]
        table.add_row(
            contender.name,
            contender.path,
            f"{statistics.median(sample.requests_per_second for sample in found):.0f}",
            f"{statistics.median(sample.cpu for sample in found):.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
