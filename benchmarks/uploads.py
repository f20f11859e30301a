"""Send large photos from several clients, and look at what they do to the liveness probe.

    make environment
    .venv/bin/python benchmarks/uploads.py [--framework fastapi] [--server uvicorn]

The service is the one of docs/image.md. Each client sends photos of twelve megapixels one after
another, as the body, in a form and in JSON. Meanwhile another process asks the liveness probe, each
time over a new connection. The table has the slowest probe in milliseconds and the median of the
clients' seconds for a photo. In the first row the clients send photos of 224 by 224 pixels.
"""

import argparse
import io
import json
import os
import re
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
from hostile import watched
from onnx import TensorProto, helper
from PIL import Image
from rich.console import Console
from rich.table import Table

from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.source import template_root
from inferplate.wire import ask
from inferplate.workbench import Workbench

CLIENTS: Final = 4
PHOTOS: Final = 5
LARGE: Final = (4000, 3000)
SMALL: Final = (224, 224)


class Body(NamedTuple):
    """A request to /predict with one photo."""

    content: bytes
    content_type: str


def as_body(photo: bytes) -> Body:
    return Body(photo, "image/jpeg")


def as_form(photo: bytes) -> Body:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return Body(head + photo + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")


def as_json(photo: bytes) -> Body:
    document = {"instances": [{"image": b64encode(photo).decode()}]}
    return Body(json.dumps(document).encode(), "application/json")


KINDS: Final[dict[str, tuple[tuple[int, int], Callable[[bytes], Body]]]] = {
    "small, as the body": (SMALL, as_body),
    "12 megapixels, as the body": (LARGE, as_body),
    "12 megapixels, in a form": (LARGE, as_form),
    "12 megapixels, in JSON": (LARGE, as_json),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--framework", default="fastapi")
    parser.add_argument("--server", default="uvicorn")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--results", type=Path, help="a JSON file to add the results to")
    given = parser.parse_args()
    title = f"{given.framework} on {given.server}, {given.clients} clients"
    table = Table("photo", title=title)
    table.add_column("probe ms", justify="right")
    table.add_column("s a photo", justify="right")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        project = emit(Path(folder), Variant(given.framework, "onnxruntime", given.server))
        for name, (size, encode) in KINDS.items():
            probe, seconds = measure(project, encode(photo(size)), given.clients)
            results[name] = {"probe": probe, "seconds": seconds}
            table.add_row(name, f"{probe * 1000:.0f}", f"{seconds:.2f}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if given.results:
        all_results = json.loads(given.results.read_text()) if given.results.exists() else {}
        given.results.write_text(json.dumps({**all_results, title: results}, indent=1) + "\n")


def photo(size: tuple[int, int]) -> bytes:
    """Make a JPEG with as much detail as photos have: about two bits a pixel."""
    width, height = size
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(written, "JPEG", quality=90)
    return written.getvalue()


def emit(folder: Path, variant: Variant) -> Path:
    """Emit a service with the first `predict.py` of docs/image.md and a model that fits it."""
    bench = Workbench(folder, sys.executable)
    project = bench.project(variant)
    page = (template_root() / "docs/image.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:1]
    (project / "src/service/predict.py").write_text(example, encoding="utf-8")
    (project / "models").mkdir(exist_ok=True)
    write_model(project / "models/animals.onnx")
    describe = ["-m", "service", "manifest", "models/animals.onnx"]
    named = ["--name", "animals", "--version", "1"]
    settings = {"PYTHONPATH": "src"}
    bench.run([sys.executable, *describe, *named], project, timeout=60, settings=settings)
    return project


def write_model(path: Path) -> None:
    """Write a model that averages the pixels, so that the service's own work is what is seen."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 224, 224])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "animals", [pixels], [output])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def measure(project: Path, body: Body, clients: int) -> tuple[float, float]:
    """Return the slowest probe and the median time of a photo, in seconds."""
    with Service(project, sys.executable, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        with watched(service.port) as found, ProcessPoolExecutor(1, initializer=_nice) as process:
            seconds = process.submit(_send_all, service.port, body, clients).result()
    return found.value, statistics.median(seconds)


def _nice() -> None:
    os.nice(10)


def _send_all(port: int, body: Body, clients: int) -> list[float]:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda _: _send(port, body), range(clients * PHOTOS)))


def _send(port: int, body: Body) -> float:
    began = time.perf_counter()
    headers = {"content-type": body.content_type}
    answer = ask(port, "POST", "/predict", body.content, headers)
    if answer.status != 200:
        raise RuntimeError(f"/predict answers {answer.status}: {answer.body!r}")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
