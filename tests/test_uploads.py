"""Files in requests, as docs/image.md shows them, on each framework and each server."""

import io
import json
import re
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Final

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

PAGE: Final = (template_root() / "docs/image.md").read_text(encoding="utf-8")
PREDICT: Final = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
SERVERS: Final = [
    ("fastapi", "uvicorn"),
    ("litestar", "uvicorn"),
    ("ninja", "uvicorn"),
    ("fastapi", "granian"),
    ("fastapi", "gunicorn"),
    ("fastapi", "hypercorn"),
]


def photo(color: str, size: tuple[int, int] = (640, 480)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, color).save(written, "JPEG")
    return written.getvalue()


def write_classifier(path: Path) -> None:
    """Write a model that tells cats by red, dogs by green."""
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


def form(*photos: bytes) -> tuple[bytes, dict[str, str]]:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = b"".join(b"%b%b\r\n" % (head, each) for each in photos) + b"--b--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "server"), SERVERS)
def test_page_classifies_photos(
    framework: str, server: str, bench: Workbench, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(bench.project(Variant(framework, "onnxruntime", server)), project)
    shutil.rmtree(project / "models", ignore_errors=True)
    (project / "models").mkdir()
    (project / "src/service/predict.py").write_text(PREDICT, encoding="utf-8")
    write_classifier(project / "models/animals.onnx")
    describe = [
        "-m",
        "service",
        "manifest",
        "models/animals.onnx",
        "--name",
        "animals",
        "--version",
        "1",
    ]
    settings = {"PYTHONPATH": "src"}
    bench.run([bench.python, *describe], project, timeout=60, settings=settings)
    if server == "uvicorn":
        bench.run([bench.python, "-m", "ruff", "check", "--no-cache"], project, timeout=60)
        with bench.mypy("src") as command:
            bench.run(command, project, timeout=300)
    large = photo("lime", (4000, 3000))
    document = {
        "instances": [{"image": b64encode(each).decode()} for each in (photo("red"), large)]
    }
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()

        def labels(body: bytes, headers: dict[str, str]) -> list[str]:
            answer = ask(service.port, "POST", "/predict", body, headers)
            assert answer.status == 200, answer.body
            return [each["label"] for each in answer.json()["predictions"]]

        assert labels(*form(photo("red"), large)) == ["cat", "dog"]
        assert labels(large, {"content-type": "image/jpeg"}) == ["dog"]
        body = json.dumps(document).encode()
        assert labels(body, {"content-type": "application/json"}) == ["cat", "dog"]
        answer = ask(service.port, "POST", "/predict", *form(photo("red"), large[:-5000]))
        assert answer.status == 422
        assert answer.json()["errors"][0]["field"] == "instances.1.image"
