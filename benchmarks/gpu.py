"""Emits services for a GPU and for the CPU, asks and measures them: what ``gpu.sh`` runs.

    python benchmarks/gpu.py FOLDER [--gpus TEXT] [--devices cpu,cuda] [--seconds 4]

Each service has two models: its example, whose answers ``golden.json`` knows, and a network for
images (3x224x224) with weights from a seed. The second gives the same on both devices or the run
fails. ``--devices cpu`` tries out the measurement where there is no GPU.
"""

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate_tools.client import (
    HOST,
    InputTensor,
    alike,
    ask,
    binary_request,
    decode_outputs,
    post_json,
    samples,
)
from inferplate_tools.errors import CheckFailed
from inferplate_tools.service import Service
from inferplate_tools.workbench import project_environment

RUNTIMES: Final = ("onnxruntime", "pytorch")
CLIENTS: Final = (1, 16)
WARM_UP: Final = 0.5
"""Part of the seconds of a measurement that go before it."""
SAME: Final = 1e-3
"""By how much answers of the two devices may differ."""
IMAGE: Final = (1, 3, 224, 224)
_MEMORY: Final = "inference_device_memory_used_bytes"


@dataclass(frozen=True)
class Figure:
    """What one service did under one load. Latencies in milliseconds."""

    runtime: str
    model: str
    device: str
    clients: int
    requests_per_second: float
    p50: float
    p99: float
    max_batch_size: int
    device_memory_bytes: float | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gpus", default="")
    parser.add_argument("--devices", default="cpu,cuda")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--python", help="an environment with all libraries; none: install them")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))  # so that services are ended
    figures: list[Figure] = []
    try:
        for runtime in RUNTIMES:
            for figure in measure_runtime(runtime, given):
                figures.append(figure)
                print(row(figure), flush=True)
                write(given.folder / "results.json", given.gpus, figures)
    except (CheckFailed, ValueError) as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 1
    return 0


def measure_runtime(runtime: str, given: argparse.Namespace) -> Iterator[Figure]:
    """Emit a service for each device, install its libraries, and measure both models on each."""
    devices = given.devices.split(",")
    projects = {device: emit(runtime, device, given.folder) for device in devices}
    python = given.python or install(projects[devices[-1]], given.folder / "environment")
    first = projects[devices[0]]
    run([python, "train.py"], first)
    example = keep(first, "example")
    run([python, str(Path(__file__).with_name("gpu_model.py")), runtime], first)
    image = keep(first, "image")
    answers: dict[str, list[float]] = {}
    for device, project in projects.items():
        for name, models in (("example", example), ("image", image)):
            shutil.rmtree(project / "models", ignore_errors=True)
            shutil.copytree(models, project / "models")
            settings = {"SERVICE_PREDICT_ENDPOINT": "true" if name == "example" else "false"}
            with Service(project, python, settings) as service:
                service.wait_ready()
                if name == "example":
                    check_golden(service.port, project)
                    path, tensor = "iris", example_tensor(project)
                else:
                    path, tensor = "image", image_tensor()
                    answers[device] = ask_image(service.port, tensor)
                    check_same(answers, runtime)
                yield from loads(service, runtime, device, (name, path), tensor, given.seconds)


def emit(runtime: str, device: str, folder: Path) -> Path:
    destination = folder / f"{runtime}-{device}"
    shutil.rmtree(destination, ignore_errors=True)
    answers = {"runtime": runtime, "accelerator": device, "deploy": []}
    return render(template_root(), destination, answers)


def install(project: Path, environment: Path) -> str:
    """Install what a project needs into an environment of its own, and return its interpreter."""
    folder = environment.with_name(f"{environment.name}-{project.name}")
    python = str(folder / "bin/python")
    run(["uv", "venv", "--quiet", "--allow-existing", "--python", "3.12", str(folder)], project)
    where = ["--python", python]
    run(["uv", "pip", "install", "--quiet", *where, "-r", "pyproject.toml"], project)
    train = ["--group", "train"]
    run(["uv", "pip", "install", "--quiet", *where, *train], project)
    return python


def run(command: list[str], project: Path) -> None:
    done = subprocess.run(  # noqa: S603 - the commands are ours
        command,
        cwd=project,
        env=project_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"{' '.join(command[:4])} failed\n{done.stdout}{done.stderr}")


def keep(project: Path, name: str) -> Path:
    """Set the folder of a model aside."""
    kept = project / f"models-{name}"
    shutil.rmtree(kept, ignore_errors=True)
    return (project / "models").rename(kept)


def check_golden(port: int, project: Path) -> None:
    """Compare the answers of the example with the known ones."""
    golden = json.loads((project / "tests/golden.json").read_bytes())
    answer = post_json(port, "/predict", {"instances": [each["instance"] for each in golden]})
    if answer.status != 200:
        raise CheckFailed(f"{project.name} answers {answer.status}: {answer.body!r}")
    found = json.loads(answer.body)["predictions"]
    if not alike(found, [each["prediction"] for each in golden], 0.02):
        raise CheckFailed(f"{project.name} does not answer what golden.json says: {found}")


def example_tensor(project: Path) -> InputTensor:
    manifest = json.loads((project / "models/manifest.json").read_bytes())
    return InputTensor(manifest["inputs"][0]["name"], "FP32", [1, 4], [5.9, 3.0, 4.2, 1.5])


def image_tensor() -> InputTensor:
    values = np.random.default_rng(7).random(IMAGE, dtype=np.float32)
    return InputTensor("image", "FP32", [*IMAGE], values.ravel().tolist())


def ask_image(port: int, tensor: InputTensor) -> list[float]:
    body, headers = binary_request([tensor])
    answer = ask(port, "POST", "/v2/models/image/infer", body, headers)
    if answer.status != 200:
        raise CheckFailed(f"the model for images answers {answer.status}: {answer.body!r}")
    return decode_outputs(answer)["scores"]


def check_same(answers: dict[str, list[float]], runtime: str) -> None:
    one, *others = answers.values()
    for other in others:
        if not np.allclose(one, other, rtol=0, atol=SAME * float(np.ptp(one))):
            raise CheckFailed(f"{runtime} answers otherwise on the GPU than on the CPU")


def loads(
    service: Service,
    runtime: str,
    device: str,
    model: tuple[str, str],
    tensor: InputTensor,
    seconds: float,
) -> Iterator[Figure]:
    """Measure one service under each load."""
    name, path = model
    body, headers = binary_request([tensor])
    address = f"http://{HOST}:{service.port}/v2/models/{path}/infer"
    for clients in CLIENTS:
        taken, lasted = asyncio.run(closed(address, body, headers, clients, seconds))
        cuts = statistics.quantiles(taken, n=100)
        # The first GPU is the one that is used.
        memory = samples(service.port, _MEMORY)[0][1] if device == "cuda" else None
        yield Figure(
            runtime,
            name,
            device,
            clients,
            len(taken) / lasted,
            1000 * statistics.median(taken),
            1000 * cuts[98],
            int(samples(service.port, "inference_max_batch_size")[0][1]),
            memory,
        )


async def closed(
    address: str, body: bytes, headers: dict[str, str], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Let clients ask one after another; return what each answer took, and how long all did."""
    taken: list[float] = []
    began = time.perf_counter() + WARM_UP * seconds
    end = began + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while (start := time.perf_counter()) < end:
            async with session.post(address, data=body, headers=headers) as answer:
                await answer.read()
                if answer.status != 200:
                    raise CheckFailed(f"{address} answers {answer.status}")
            if start >= began:
                taken.append(time.perf_counter() - start)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    if len(taken) < 2:
        raise CheckFailed(f"{address} answered {len(taken)} requests in {seconds:g} s")
    return taken, time.perf_counter() - began


def row(figure: Figure) -> str:
    memory = figure.device_memory_bytes
    return (
        f"{figure.runtime:12} {figure.model:8} {figure.device:5} {figure.clients:3} clients "
        f"{figure.requests_per_second:9.1f} requests/s  p50 {figure.p50:8.2f} ms  "
        f"p99 {figure.p99:8.2f} ms  batches to {figure.max_batch_size:3}"
        + (f"  GPU memory {memory / 1e6:.0f} MB" if memory else "")
    )


def write(path: Path, gpus: str, figures: list[Figure]) -> None:
    document: dict[str, Any] = {
        "gpus": gpus.splitlines(),
        "measured": time.strftime("%Y-%m-%d"),
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
