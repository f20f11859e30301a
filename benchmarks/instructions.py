"""Count the instructions that a request costs, which no other load on the machine can change.

    make environment
    apt-get install valgrind
    .venv/bin/python benchmarks/instructions.py [--framework fastapi] [--write]

The application of an emitted service is asked in process, without a server, under Callgrind; so is
the bare loop of ``peers/bare``, which stands for what Python and NumPy cost. The model is one that
doubles numbers. The table has thousands of instructions a request, of all threads together, and how
many times those of the bare loop they are. `instructions.json` has the ratios of the last
``--write``; without it, a ratio that is more than 3 % over the written one is an error.
"""

import argparse
import asyncio
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench, project_environment

RECORD: Final = Path(__file__).with_suffix(".json")
BARE: Final = Path(__file__).parent / "peers" / "bare"
RUNTIME: Final = Path(__file__).with_name("paced_runtime.py")
FRAMEWORKS: Final = ("fastapi", "litestar", "ninja")
TOLERANCE: Final = 1.03
WARM: Final = 320
COUNTED: Final = 320
MANY: Final = 32
SETTINGS: Final = {
    "SERVICE_LOG_LEVEL": "error",
    "SERVICE_MAX_BATCH_SIZE": str(MANY),
    "SERVICE_REQUEST_TIMEOUT": "60",
    "SERVICE_SLOW_REQUEST": "60",
}
_LIMIT: Final = 900
"""Seconds that one program may take; under Callgrind it takes fifty times as long."""
ROW: Final = [5.1, 3.5, 1.4, 0.2]

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Request = tuple[str, bytes, list[tuple[bytes, bytes]]]


def requests() -> dict[str, Request]:
    """Make a request of one row for each way to ask an emitted service."""
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP32"}
    document = json.dumps({"inputs": [{**tensor, "data": ROW}]}).encode()
    data = np.array(ROW, np.float32).tobytes()
    sized = {**tensor, "parameters": {"binary_data_size": len(data)}}
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": [sized], "outputs": outputs}).encode()
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    instance = json.dumps({"instances": [dict(zip(names, ROW, strict=True))]}).encode()
    as_json = (b"content-type", b"application/json")
    infer = "/v2/models/iris/infer"
    length = (b"inference-header-content-length", str(len(header)).encode())
    return {
        "JSON tensors": (infer, document, [as_json]),
        "binary tensors": (infer, header + data, [length]),
        "/predict": ("/predict", instance, [as_json]),
    }


async def ask(app: Application, request: Request, state: dict[str, Any]) -> None:
    """Send a request through ASGI, as uvicorn does.

    Raises:
        RuntimeError: the answer is not 200.
    """
    path, body, headers = request
    length = (b"content-length", str(len(body)).encode())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*"), length, *headers],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": state.copy(),
    }
    sent: list[dict[str, Any]] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal body
        if body is None:
            await left.wait()
            return {"type": "http.disconnect"}
        message = {"type": "http.request", "body": body, "more_body": False}
        body = None  # type: ignore[assignment]
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"{path}: {sent}")


async def ask_many(
    app: Application, request: Request, state: dict[str, Any], count: int, at_once: int
) -> None:
    for _ in range(count // at_once):
        await asyncio.gather(*(ask(app, request, state) for _ in range(at_once)))


def dump(name: str) -> None:
    """Tell Callgrind to write what it counted under a name, and to begin anew."""
    command = ["callgrind_control", f"--dump={name}", str(os.getpid())]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - ours


async def count_all(app: Application, asked: dict[str, Request], state: dict[str, Any]) -> None:
    """Run each kind of request, alone and many at once, between two dumps."""
    for request in asked.values():
        await ask_many(app, request, state, WARM, MANY)
        await ask_many(app, request, state, WARM, 1)
    dump("start")
    dump("nothing")
    for name, request in asked.items():
        for at_once in (1, MANY):
            await ask_many(app, request, state, COUNTED, at_once)
            dump(f"{name}, {at_once}")


async def count_service() -> None:
    """Start the emitted service of this folder and count its requests."""
    sys.path.insert(0, "src")
    app = importlib.import_module("service.main").app
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    started = asyncio.Event()
    state: dict[str, Any] = {}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    lifespan = asyncio.create_task(app({"type": "lifespan", "state": state}, received.get, send))
    received.put_nowait({"type": "lifespan.startup"})
    await started.wait()
    while not app.engine.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await count_all(app, requests(), state)
    received.put_nowait({"type": "lifespan.shutdown"})
    await lifespan


class DoublingOnnxRuntime:
    """Stands for the module `onnxruntime`, with the same model as that of the services."""

    class SessionOptions:
        intra_op_num_threads = 1

    class InferenceSession:
        def __init__(self, *_: object) -> None:
            pass

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="x", shape=["N", 4], type="tensor(float)")]

        def get_outputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="y", shape=["N", 3], type="tensor(float)")]

        def run(self, _: list[str], inputs: dict[str, Any]) -> list[Any]:
            time.sleep(0)
            return [2 * inputs["x"][:, :3]]


async def count_bare() -> None:
    """Count the requests of the bare loop."""
    body = json.dumps({"instances": [ROW]}).encode()
    headers = [(b"content-type", b"application/json")]
    sys.modules["onnxruntime"] = DoublingOnnxRuntime  # type: ignore[assignment]
    app = importlib.import_module("serve").app
    await count_all(app, {"JSON tensors": ("/predict", body, headers)}, {})


def counted(folder: Path, what: str, variables: dict[str, str]) -> dict[str, float]:
    """Run this program under Callgrind in a folder; return instructions a request, by name."""
    with tempfile.TemporaryDirectory() as results:
        out = Path(results) / "out"
        command = [
            *("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"),
            *(sys.executable, __file__, "--count", what),
        ]
        environment = {
            **project_environment(SETTINGS),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path[1:]]),
            **variables,
        }
        subprocess.run(  # noqa: S603 - ours
            command, cwd=folder, env=environment, check=True, timeout=_LIMIT
        )
        dumps = sorted(out.parent.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = dict(map(_read, dumps))
    nothing = totals.pop("nothing")
    totals.pop("start")
    return {name: (total - nothing) / COUNTED for name, total in totals.items()}


def _read(path: Path) -> tuple[str, int]:
    name, total = "", 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("desc: Trigger: "):
                name = line.removeprefix("desc: Trigger: dump ").strip()
            elif line.startswith("summary: "):
                total = int(line.split()[1])
                break
    return name, total


def measure(frameworks: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Emit the services, and count the bare loop's and theirs."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder), sys.executable)
        for framework in frameworks:
            variant = Variant(framework, "python", "uvicorn")
            bench.place_artifact(variant)
            project = bench.project(variant)
            shutil.copy(RUNTIME, project / "src/service/runtime.py")
            yield framework, counted(project, "service", {"SECONDS_PER_ROW": "0"})
        place = shutil.copytree(BARE, Path(folder) / "bare")
        yield "bare", counted(place, "bare", {"MODEL": ""})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", action="append", choices=FRAMEWORKS)
    parser.add_argument("--write", action="store_true", help="keep the ratios as the new record")
    parser.add_argument("--count", choices=("bare", "service"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count:
        asyncio.run(count_bare() if given.count == "bare" else count_service())
        return 0
    found = dict(measure(given.framework or list(FRAMEWORKS)))
    bare = found.pop("bare")
    ratios = {
        framework: {
            name: total / bare[f"JSON tensors, {name.rsplit(', ', 1)[1]}"]
            for name, total in totals.items()
        }
        for framework, totals in found.items()
    }
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    written = record.get("ratios", {})
    table = Table("request, at once", "bare", *found, title="Thousands of instructions a request")
    for name in next(iter(found.values())):
        base = bare[f"JSON tensors, {name.rsplit(', ', 1)[1]}"]
        cells = [f"{found[each][name] / 1e3:,.0f} ({ratios[each][name]:.2f})" for each in found]
        table.add_row(name, f"{base / 1e3:,.0f}", *cells)
    Console().print(table)
    if given.write:
        kept = {
            "python": platform.python_version(),
            "ratios": {
                **written,
                **{
                    framework: {name: round(value, 3) for name, value in each.items()}
                    for framework, each in ratios.items()
                },
            },
        }
        RECORD.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        return 0
    if missing := set(ratios) - set(written):
        print(f"nothing is written to compare with: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    worse = [
        f"{framework}, {name}: {value:.3f}, was {written[framework][name]:.3f}"
        for framework, each in ratios.items()
        for name, value in each.items()
        if value > TOLERANCE * written.get(framework, {}).get(name, value)
    ]
    for line in worse:
        print(f"costs more than before: {line}", file=sys.stderr)
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
