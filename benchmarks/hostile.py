"""Send requests that are made to cost a service much, and look at what they cost it.

    make environment
    .venv/bin/python benchmarks/hostile.py [--framework fastapi] [--server uvicorn]

Each request comes alone, then sixteen times at once, from a process of low priority. Meanwhile
another process asks the liveness probe, each time over a new connection. The table has the slowest
probe in milliseconds, the most resident memory in MiB beyond what the service has when it is idle,
and the statuses of the answers; the median of several runs. The first row is a request that costs
little: what its probes take is the machine's. The service is started anew for each run, so that
none inherits the memory of another.
"""

import argparse
import gzip
import http.client
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from overload import resident
from rich.console import Console
from rich.table import Table

from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.wire import HOST, JSON_LENGTH
from inferplate.workbench import Workbench

AT_ONCE = 16
MEBIBYTE = 2**20
PROBE_PAUSE = 0.01
INFER = "/v2/models/iris/infer"
WHOLE_BODY = 60 * MEBIBYTE
WHOLE_JSON = 8 * MEBIBYTE - 1000
MANIFEST = {"name": "values", "datatype": "FP32", "shape": [-1, -1]}
SETTINGS = {"SERVICE_REQUEST_TIMEOUT": "60", "SERVICE_MAX_QUEUE_SIZE": "10000"}


@dataclass(frozen=True)
class Request:
    """A costly request. ``sent``: how much of the body is sent before the client waits."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass(frozen=True)
class Cost:
    """What requests cost: seconds of the slowest probe, bytes of memory, and how they ended."""

    probe: float
    memory: int
    statuses: Counter[str]


def _json(path: str, body: bytes, *, compressed: bool = False) -> Request:
    headers = {"Content-Type": "application/json"}
    if not compressed:
        return Request(path, body, headers)
    return Request(path, gzip.compress(body, 6), {**headers, "Content-Encoding": "gzip"})


def _tensor(datatype: str, count: int, data: bytes) -> bytes:
    shape = f'"shape":[1,{count}],"datatype":"{datatype}"'
    return b'{"inputs":[{"name":"values",%b,"data":%b}]}' % (shape.encode(), data)


def _binary(datatype: str, count: int, data: bytes) -> Request:
    tensor: dict[str, object] = {"name": "values", "shape": [1, count], "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Request(INFER, head + data, {JSON_LENGTH: str(len(head))})


def _repeated(value: bytes, count: int) -> bytes:
    return b"[" + (value + b",") * (count - 1) + value + b"]"


def _keys(count: int) -> bytes:
    return b"{" + b",".join(b'"k%d":1' % number for number in range(count)) + b"}"


REQUESTS: dict[str, Callable[[], Request]] = {
    "/v2, one float": lambda: _json(INFER, _tensor("FP32", 1, b"[0.5]")),
    "/predict, 200,000 {} in gzip": lambda: _json(
        "/predict", b'{"instances":' + _repeated(b"{}", 200_000) + b"}", compressed=True
    ),
    "/predict, 10,000 wrong instances": lambda: _json(
        "/predict", b'{"instances":' + _repeated(b"{}", 10_000) + b"}"
    ),
    "/predict, 10,000 right instances": lambda: _json(
        "/predict",
        b'{"instances":'
        + _repeated(
            b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}', 10_000
        )
        + b"}",
    ),
    "/predict, 49,000 keys": lambda: _json("/predict", b'{"instances":[' + _keys(49_000) + b"]}"),
    "/predict, string of 60 MiB": lambda: _json(
        "/predict", b'{"instances":["' + b"x" * WHOLE_BODY + b'"]}'
    ),
    "/predict, string of 8 MiB": lambda: _json(
        "/predict", b'{"instances":["' + b"x" * WHOLE_JSON + b'"]}'
    ),
    "/predict, 60 MiB of \\u00e9": lambda: _json(
        "/predict", b'{"instances":["' + b"\\u00e9" * (WHOLE_BODY // 6) + b'"]}'
    ),
    "/predict, 8 MiB of \\u00e9": lambda: _json(
        "/predict", b'{"instances":["' + b"\\u00e9" * (WHOLE_JSON // 6) + b'"]}'
    ),
    "/predict, NaN 90,000 times, 150 deep": lambda: _json(
        "/predict", b"[" * 150 + _repeated(b"NaN", 90_000) + b"]" * 150
    ),
    "/v2, 60 MB of {} in gzip": lambda: _json(
        INFER, b'{"inputs":[],"x":' + _repeated(b"{}", 20_000_000) + b"}", compressed=True
    ),
    "/v2, 249,000 {}": lambda: _json(INFER, b'{"x":' + _repeated(b"{}", 249_000) + b"}"),
    "/v2, 249,000 keys": lambda: _json(INFER, b'{"x":' + _keys(249_000) + b"}"),
    "/v2, 49,000 keys": lambda: _json(INFER, b'{"x":' + _keys(49_000) + b"}"),
    "/v2, [ in [ 60 MiB deep": lambda: _json(INFER, b"[" * WHOLE_BODY),
    "/v2, [ in [ 8 MiB deep": lambda: _json(INFER, b"[" * WHOLE_JSON),
    "/v2, not UTF-8, 60 MiB": lambda: _json(INFER, b'{"x":"' + b"\xff" * WHOLE_BODY + b'"}'),
    "/v2, not UTF-8, 8 MiB": lambda: _json(INFER, b'{"x":"' + b"\xff" * WHOLE_JSON + b'"}'),
    "/v2, 59 MB of floats in JSON": lambda: _json(
        INFER, _tensor("FP32", 6_500_000, _repeated(b"0.123456", 6_500_000))
    ),
    "/v2, 490,000 floats in JSON": lambda: _json(
        INFER, _tensor("FP32", 490_000, _repeated(b"0.12345678901234567", 490_000))
    ),
    "/v2, 15 million floats out as JSON": lambda: _binary(
        "FP32", 15_000_000, b"\x12\x34\x56\x3f" * 15_000_000
    ),
    "/v2, 15 million empty BYTES": lambda: _binary("BYTES", 15_000_000, bytes(60_000_000)),
    "/v2, 31 of 63 MiB sent": lambda: Request(
        INFER, bytes(63 * MEBIBYTE), {"Content-Type": "application/json"}, 31 * MEBIBYTE
    ),
}


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        project = _project(Path(folder), Variant(options.framework, "python", options.server))
        rows = {
            name: [
                [_measure(project, make(), count) for _ in range(options.repeats)]
                for count in (1, options.at_once)
            ]
            for name, make in REQUESTS.items()
            if options.only in name
        }
    title = f"{options.framework} on {options.server}"
    if options.results:
        _add(options.results, title, rows)
    _print(title, rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--framework", default="fastapi")
    parser.add_argument("--server", default="uvicorn")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, help="a JSON file to add the results to")
    parser.add_argument("--only", default="", help="requests whose name has this text")
    return parser.parse_args()


def _project(folder: Path, variant: Variant) -> Path:
    """Emit a service whose model echoes its one input; /predict keeps the example's schema."""
    bench = Workbench(folder)
    bench.place_artifact(variant)
    project = bench.project(variant)
    shutil.copy(Path(__file__).with_name("echo_runtime.py"), project / "src/service/runtime.py")
    manifest: dict[str, Any] = json.loads((project / "models/manifest.json").read_text())
    manifest["inputs"] = [{**MANIFEST}]
    manifest["outputs"] = [{**MANIFEST, "name": "echo"}]
    (project / "models/manifest.json").write_text(json.dumps(manifest))
    predict = project / "src/service/predict.py"
    text = predict.read_text()
    begin = text.index("def to_tensors")
    predict.write_text(text[:begin] + _CONVERSIONS)
    return project


_CONVERSIONS = '''\
def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's input, one number each."""
    return {"values": np.float32([[flower.sepal_length] for flower in instances])}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's output to predictions, one for each number."""
    return [
        Prediction(label="setosa", probabilities=dict.fromkeys(SPECIES, number))
        for number in outputs["echo"][:, 0].tolist()
    ]
'''


def _measure(project: Path, request: Request, count: int) -> Cost:
    with Service(project, sys.executable, SETTINGS) as service:
        service.wait_ready()
        idle = resident(service.pid)
        with watched(service.port) as found:
            statuses = _load(service.port, request, count)
        memory = _peak(service.pid) - idle
    return Cost(found.value, memory, statuses)


def _load(port: int, request: Request, count: int) -> Counter[str]:
    """Send a request so many times at once, from another process, and count the statuses."""
    with ProcessPoolExecutor(1, initializer=os.nice, initargs=(10,)) as process:
        return process.submit(_send_all, port, request, count).result()


def _send_all(port: int, request: Request, count: int) -> Counter[str]:
    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(lambda _: _send(port, request), range(count)))


def _send(port: int, request: Request) -> str:
    connection = http.client.HTTPConnection(HOST, port, timeout=90)
    try:
        connection.putrequest("POST", request.path)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders()
        if request.sent is not None:
            connection.send(memoryview(request.body)[: request.sent])
            time.sleep(3)
            return "left"
        with suppress(OSError):  # it may answer and close before it has all of it
            connection.send(request.body)
        response = connection.getresponse()
        while response.read(MEBIBYTE):
            pass
    except OSError:
        return "closed"
    else:
        return str(response.status)
    finally:
        connection.close()


@contextmanager
def watched(port: int) -> Iterator[Any]:
    """Have another process watch the probe; the slowest is there afterwards."""
    found = multiprocessing.Value("d", 0)
    stop = multiprocessing.Event()
    watcher = multiprocessing.Process(target=_watch, args=(port, found, stop))
    watcher.start()
    time.sleep(0.3)
    try:
        yield found
        time.sleep(0.1)
    finally:
        stop.set()
        watcher.join()


def _peak(pid: int) -> int:
    """Read the most bytes of memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _watch(port: int, found: Any, stop: Event) -> None:
    while not stop.is_set():
        began = time.perf_counter()
        with socket.create_connection((HOST, port), timeout=60) as probe:
            probe.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")
            probe.recv(4096)
        found.value = max(found.value, time.perf_counter() - began)
        time.sleep(PROBE_PAUSE)


def _add(path: Path, title: str, rows: dict[str, list[list[Cost]]]) -> None:
    """Add results to a file: of each request the runs alone, then those of many at once."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault(title, {}).update(
        {name: [[vars(cost) for cost in runs] for runs in both] for name, both in rows.items()}
    )
    path.write_text(json.dumps(results, indent=1) + "\n")


def _print(title: str, rows: dict[str, list[list[Cost]]]) -> None:
    table = Table("request", title=title)
    for column in ("probe ms", "MiB", "answers"):
        table.add_column(column, justify="right")
    for column in ("many: probe ms", "MiB", "answers"):
        table.add_column(column, justify="right")
    for name, both in rows.items():
        cells: list[str] = []
        for runs in both:
            probe = statistics.median(cost.probe for cost in runs)
            memory = statistics.median(cost.memory for cost in runs)
            answers = " ".join(f"{status}:{n}" for status, n in sorted(runs[-1].statuses.items()))
            cells += [f"{probe * 1000:.0f}", f"{memory / MEBIBYTE:.0f}", answers]
        table.add_row(name, *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
