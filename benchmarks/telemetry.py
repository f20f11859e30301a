"""Measure what traces cost: the CPU time of a request with traces off, sampled and always on.

    make environment
    .venv/bin/python benchmarks/telemetry.py [--framework fastapi] [--rounds 20]

Three processes have the application of an emitted service, each with other variables, and are asked
in turn, in process, so that whatever else the machine does meets all of them. The model doubles
numbers. The time is that of all threads of a process, with what it takes to send the spans to a
collector that this program runs. The table has the medians of the rounds; the ratios are those to
the process with traces off, in the same round.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from instructions import FRAMEWORKS, SETTINGS, ask_many, emitted, requests
from rich.console import Console
from rich.table import Table

from inferplate_tools.workbench import Workbench, project_environment

OFF: Final = "off"
MODES: Final = {
    OFF: {},
    "1 % sampled": {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
    "all": {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}
COUNT: Final = 480
"""Requests of a round."""

Times = dict[str, list[float]]
"""By path: microseconds of CPU time a request, in each round."""


class _Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


async def serve() -> None:
    """Start the emitted service of this folder, and ask it for what the standard input names."""
    sys.path.insert(0, "src")
    app = importlib.import_module("service.main").app
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    state: dict[str, Any] = {}

    async def send(_: dict[str, Any]) -> None:
        pass

    lifespan = asyncio.create_task(app({"type": "lifespan", "state": state}, received.get, send))
    received.put_nowait({"type": "lifespan.startup"})
    while not app.engine.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    asked = requests()
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        request, at_once = asked[name]
        began = time.process_time()
        await ask_many(app, request, state, COUNT, at_once)
        if app._tracer is not None:
            trace = importlib.import_module("opentelemetry.trace")
            await asyncio.to_thread(trace.get_tracer_provider().force_flush)
        print(json.dumps(time.process_time() - began), flush=True)
    received.put_nowait({"type": "lifespan.shutdown"})
    await lifespan


@contextlib.contextmanager
def started(project: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    environment = project_environment({**SETTINGS, "SECONDS_PER_ROW": "0", **variables})
    environment["PYTHONPATH"] = ":".join(sys.path[1:])
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(  # noqa: S603 - ours
        command,
        cwd=project,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.communicate("\n", timeout=30)


def cost(process: subprocess.Popen[str], path: str) -> float:
    """Return the microseconds of CPU time that a request took."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline())) / COUNT * 1e6


def measure(framework: str, rounds: int) -> dict[str, Times]:
    """Measure each path of a framework, by what is sampled."""
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Collector))
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        project = emitted(framework, Workbench(Path(folder), sys.executable))
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        processes = {
            mode: stack.enter_context(started(project, {**sent, **variables} if variables else {}))
            for mode, variables in MODES.items()
        }
        found: dict[str, Times] = {mode: {path: [] for path in requests()} for mode in MODES}
        for path in requests():
            for process in processes.values():
                cost(process, path)  # warm
            for _ in range(rounds):
                for mode, process in processes.items():
                    found[mode][path].append(cost(process, path))
        return found


def show(framework: str, found: dict[str, Times]) -> None:
    table = Table(framework, *found, title="Microseconds of CPU time a request")
    for path, without in found[OFF].items():
        cells = []
        for mode, times in found.items():
            pairs = zip(times[path], without, strict=True)
            ratio = statistics.median(each / other for each, other in pairs)
            middle = statistics.median(times[path])
            cells.append(f"{middle:.0f}" if mode == OFF else f"{middle:.0f} ({ratio:.2f})")
        table.add_row(path, *cells)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", action="append", choices=FRAMEWORKS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    for framework in given.framework or FRAMEWORKS:
        show(framework, measure(framework, given.rounds))


if __name__ == "__main__":
    main()
