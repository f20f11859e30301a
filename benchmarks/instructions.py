"""Count the instructions that a request costs, which no other load on the machine can change.

    make environment
    apt-get install valgrind
    .venv/bin/python benchmarks/instructions.py [--framework fastapi] [--repeats 3] [--write]

The application of an emitted service is asked in process, without a server, under Callgrind; so is
the bare loop of ``peers/bare``, which stands for what Python and NumPy cost. The model is one that
doubles numbers. The table has thousands of instructions a request, of all threads together, and how
many times those of the bare loop they are. Hashes and addresses are not random, threads change only
where one waits, and the garbage collector is off: two runs differ by less than 1 %.

`instructions.json` has the counts of the last ``--write``, and the versions that they are of (then
`page.py` writes them into the documentation);
without ``--write``, a count that is more than 3 % off is an error, and other versions are one too.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
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
LIBRARIES: Final = (
    *("django", "django-ninja", "fastapi", "jiter", "litestar", "msgspec", "numpy", "orjson"),
    *("prometheus-client", "pydantic", "pydantic-core", "starlette"),
)
"""What a request passes through besides our own code: other versions have other counts."""
TOLERANCE: Final = 0.03
WARM: Final = 192
COUNTED: Final = 192
SEVERAL: Final = 16
ROWS: Final = 64
ALONE, TOGETHER = "JSON tensors, one row", f"JSON tensors, {SEVERAL} at once"
SETTINGS: Final = {
    "SERVICE_LOG_LEVEL": "error",
    "SERVICE_MAX_BATCH_SIZE": str(ROWS),
    "SERVICE_REQUEST_TIMEOUT": "60",
    "SERVICE_SLOW_REQUEST": "60",
}
_LIMIT: Final = 900
"""Seconds that one program may take; under Callgrind it takes fifty times as long."""
ROW: Final = [5.1, 3.5, 1.4, 0.2]

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Request = tuple[str, bytes, list[tuple[bytes, bytes]]]
Asked = dict[str, tuple[Request, int]]
"""By what is counted: a request, and how many of them at once."""
Counts = dict[str, float]


def requests() -> Asked:
    """Make a request for each path through an emitted service."""
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP32"}
    document = json.dumps({"inputs": [{**tensor, "data": ROW}]}).encode()
    data = np.array([ROW] * ROWS, np.float32).tobytes()
    sized = {**tensor, "shape": [ROWS, 4], "parameters": {"binary_data_size": len(data)}}
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": [sized], "outputs": outputs}).encode()
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    instance = json.dumps({"instances": [dict(zip(names, ROW, strict=True))]}).encode()
    as_json = (b"content-type", b"application/json")
    infer = "/v2/models/iris/infer"
    length = (b"inference-header-content-length", str(len(header)).encode())
    tensors = (infer, document, [as_json])
    return {
        "/predict, one row": (("/predict", instance, [as_json]), 1),
        ALONE: (tensors, 1),
        f"binary tensors, {ROWS} rows": ((infer, header + data, [length]), 1),
        TOGETHER: (tensors, SEVERAL),
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


def control(*options: str) -> None:
    """Tell Callgrind something about this process."""
    command = ["callgrind_control", *options, str(os.getpid())]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - ours


async def count_all(app: Application, asked: Asked, state: dict[str, Any]) -> None:
    """Run each kind of request between two dumps of what Callgrind counted."""
    gc.disable()
    sys.setswitchinterval(_LIMIT)
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now  # type: ignore[method-assign]
    for request, at_once in asked.values():
        await ask_many(app, request, state, WARM, at_once)
    control("--instr=on")
    control("--dump=start")
    control("--dump=nothing")
    for name, (request, at_once) in asked.items():
        await ask_many(app, request, state, COUNTED, at_once)
        control(f"--dump={name}")


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
    request = ("/predict", body, headers)
    await count_all(app, {ALONE: (request, 1), TOGETHER: (request, SEVERAL)}, {})


def counted(folder: Path, what: str, variables: Mapping[str, str]) -> Counts:
    """Run this program under Callgrind in a folder; return instructions a request, by name."""
    with tempfile.TemporaryDirectory() as results:
        out = Path(results) / "out"
        command = [
            *("setarch", "--addr-no-randomize"),
            *("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"),
            *("--instr-atstart=no", "--fair-sched=yes"),
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


def emitted(framework: str, bench: Workbench) -> Path:
    """Emit a service whose model doubles numbers."""
    variant = Variant(framework, "python", "uvicorn")
    bench.place_artifact(variant)
    project = bench.project(variant)
    shutil.copy(RUNTIME, project / "src/service/runtime.py")
    return project


def of_service(project: Path) -> Counts:
    """Count the requests of an emitted service."""
    return counted(project, "service", {"SECONDS_PER_ROW": "0"})


def measure(frameworks: Sequence[str], repeats: int) -> Iterator[tuple[str, list[Counts]]]:
    """Emit the services, and count the bare loop's requests and theirs, some times."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(Path(folder), sys.executable)
        place = shutil.copytree(BARE, Path(folder) / "bare")
        yield "bare", [counted(place, "bare", {"MODEL": ""}) for _ in range(repeats)]
        for framework in frameworks:
            project = emitted(framework, bench)
            yield framework, [of_service(project) for _ in range(repeats)]


def versions() -> dict[str, str]:
    """List what the counts are of, besides our own code."""
    asked = ["valgrind", "--version"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return {
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "valgrind": shown.stdout.strip().removeprefix("valgrind-"),
        **{library: version(library) for library in LIBRARIES},
    }


def obstacle() -> str:
    """Say why the counts cannot be compared with the written ones here, or nothing."""
    for tool in ("valgrind", "callgrind_control", "setarch"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    written = record()["versions"] if RECORD.exists() else {}
    here = versions()
    other = sorted(name for name in here if here[name] != written.get(name))
    return f"the written counts are of other versions: {', '.join(other)}" if other else ""


def record() -> dict[str, Any]:
    """Read the written counts."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def differences(name: str, found: Mapping[str, float]) -> list[str]:
    """List the counts of a service that are not what is written."""
    written = record()["instructions"].get(name, {})
    return [
        f"{name}, {path}: {count:,.0f} instructions, written {written.get(path, 0):,.0f}"
        for path, count in found.items()
        if abs(count - written.get(path, 0)) > TOLERANCE * written.get(path, 0)
    ]


def write(found: Mapping[str, Counts]) -> None:
    """Keep counts as the new record, beside those of the others that are of the same versions."""
    kept = record()["instructions"] if RECORD.exists() and not obstacle() else {}
    rounded = {
        name: {path: round(count) for path, count in each.items()} for name, each in found.items()
    }
    document = {"versions": versions(), "instructions": {**kept, **rounded}}
    RECORD.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def show(found: Mapping[str, list[Counts]]) -> None:
    """Print thousands of instructions a request, times those of the bare loop, and the spread."""
    services = [name for name in found if name != "bare"]
    table = Table("", "bare", *services, title="Thousands of instructions a request")
    for path in requests():
        bare = found["bare"][0].get(path)
        cells = [f"{bare / 1e3:,.0f}" if bare else ""]
        for name in services:
            counts = [each[path] for each in found[name]]
            spread = max(counts) / min(counts) - 1
            times = f" ({counts[0] / bare:.2f})" if bare else ""
            many = f" ± {spread:.2%}" if len(counts) > 1 else ""
            cells.append(f"{counts[0] / 1e3:,.0f}{times}{many}")
        table.add_row(path, *cells)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", action="append", choices=FRAMEWORKS)
    parser.add_argument("--repeats", type=int, default=1, help="count so often; shows the spread")
    parser.add_argument("--write", action="store_true", help="keep the counts as the new record")
    parser.add_argument("--count", choices=("bare", "service"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count:
        asyncio.run(count_bare() if given.count == "bare" else count_service())
        return 0
    found = dict(measure(given.framework or list(FRAMEWORKS), given.repeats))
    show(found)
    first = {name: counts[0] for name, counts in found.items()}
    if given.write:
        write(first)
        return 0
    reason = obstacle()
    lines = (
        [reason] if reason else [line for name in first for line in differences(name, first[name])]
    )
    for line in lines:
        print(line, file=sys.stderr)
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
