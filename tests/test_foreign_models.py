"""Models that nobody here made: from their packages, served without code, against their library."""

import base64
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any, NamedTuple

import magika
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import silero_vad
import torch
from conftest import Covers
from magika.types import OverwriteReason

from inferplate.template.variants import Variant
from inferplate_tools.client import JSON_LENGTH, Response, ask, post_json
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

pytestmark = pytest.mark.slow

Tensors = dict[str, npt.NDArray[Any]]

CLIENTS = 6
TOLERANCES = {"onnxruntime": 1e-4, "openvino": 1e-2}
"""How far an answer may be from ONNX Runtime's, as a part of the output's largest value."""
DATATYPES = {"f": "FP32", "i": "INT32", "l": "INT64"}


class Foreign(NamedTuple):
    """A model in a package. ``batched``: whether its first axis is proven to be a batch.

    ``request``: makes inputs of so many rows. ``openvino``: whether OpenVINO reads the model.
    """

    package: str
    file: str
    batched: bool
    request: Callable[[np.random.Generator, int], Tensors]
    openvino: bool = True


def images(name: str, height: int, width: int, random: np.random.Generator, rows: int) -> Tensors:
    """Make pictures: strokes of different width on paper that is not quite white."""
    pixels = random.uniform(0.9, 1.0, (rows, 3, height, width)).astype(np.float32)
    for row in pixels:
        for left in range(width // 8, 7 * width // 8, 12):
            row[:, height // 4 : height // 2, left : left + random.integers(2, 9)] = -0.5
    return {name: pixels}


def contents(random: np.random.Generator, rows: int) -> Tensors:
    """Make the first and last bytes of files, as magika takes them; 256 is padding."""
    content = random.integers(32, 127, (rows, 2048)).astype(np.int32)
    content[:, 700:1024] = 256
    return {"bytes": content}


def speech(random: np.random.Generator, rows: int, *, rate: bool = True) -> Tensors:
    """Make windows of sound, and the state of the model after others."""
    return {
        "input": random.normal(0, 0.2, (rows, 576)).astype(np.float32),
        "state": random.normal(0, 0.2, (2, rows, 128)).astype(np.float32),
        **({"sr": np.array(16000)} if rate else {}),
    }


OCR = "rapidocr_onnxruntime/models/"
VAD = "silero_vad/data/"
MODELS = [
    Foreign("magika", "magika/models/standard_v3_3/model.onnx", True, contents),
    Foreign("nudenet", "nudenet/320n.onnx", True, partial(images, "images", 320, 320)),
    Foreign("nudenet", "nudenet/320n.onnx", True, partial(images, "images", 96, 160)),
    Foreign(
        "rapidocr-onnxruntime",
        f"{OCR}ch_PP-OCRv4_det_infer.onnx",
        True,
        partial(images, "x", 96, 160),
    ),
    Foreign(
        "rapidocr-onnxruntime",
        f"{OCR}ch_ppocr_mobile_v2.0_cls_infer.onnx",
        True,
        partial(images, "x", 48, 192),
    ),
    Foreign(
        "rapidocr-onnxruntime",
        f"{OCR}ch_PP-OCRv4_rec_infer.onnx",
        True,
        partial(images, "x", 48, 160),
    ),
    Foreign("silero-vad", f"{VAD}silero_vad.onnx", False, speech, openvino=False),
    Foreign("silero-vad", f"{VAD}silero_vad_op18_ifless.onnx", False, speech),
    Foreign("silero-vad", f"{VAD}silero_vad_half.onnx", False, partial(speech, rate=False), False),
]
COUNT = len(MODELS) + sum(foreign.openvino for foreign in MODELS)


@pytest.mark.parametrize(
    ("runtime", "foreign"),
    [
        (runtime, foreign)
        for foreign in MODELS
        for runtime in ("onnxruntime", "openvino")
        if runtime == "onnxruntime" or foreign.openvino
    ],
    ids=lambda value: value if isinstance(value, str) else Path(value.file).stem,
)
def test_a_model_of_a_package_is_served_without_code_and_answers_like_onnx_runtime(
    runtime: str,
    foreign: Foreign,
    bench: Workbench,
    copy_of: Callable[[Variant], Path],
    covers: Covers,
) -> None:
    covers("models that nobody here made, without code", f"{runtime} {foreign.file}", COUNT)
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    shutil.rmtree(project / "models")
    (project / "models").mkdir()
    artifact = Path(shutil.copy(located(foreign.package, foreign.file), project / "models"))
    describe = ["manifest", f"models/{artifact.name}", "--name", "own", "--version", "1"]
    said = bench.run([bench.python, "-m", "service", *describe], project, timeout=120)
    assert ("requests may share a batch" in said) is foreign.batched, said

    random = np.random.default_rng(0)
    requests = [foreign.request(random, rows) for rows in (1, 3, *[1, 2] * CLIENTS)]
    expected = [answer_of_onnx_runtime(artifact, inputs) for inputs in requests]
    settings = {"SERVICE_PREDICT_ENDPOINT": "false", "SERVICE_MAX_BATCH_DELAY": "0.01"}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        alone = [infer(service.port, inputs) for inputs in requests[:2]]
        with ThreadPoolExecutor(len(requests)) as pool:
            beside = list(pool.map(partial(infer, service.port), requests))
    for found, right in zip([*alone, *beside], [*expected[:2], *expected], strict=True):
        assert found.keys() == right.keys()
        for name, values in right.items():
            assert found[name].shape == values.shape
            tolerance = TOLERANCES[runtime] * np.abs(values).max()
            np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance)
    first, _, third, *_ = expected
    assert not all(np.array_equal(first[name], third[name]) for name in first)


CONTENTS = [
    b"import os\n\n\ndef size(path):\n    return os.stat(path).st_size\n" * 3,
    b"<html><head><title>a</title></head><body><p>b</p></body></html>\n" * 200,
    b'{"a": [1, 2, 3], "b": {"c": null}}\n',
    b"  \n%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n  ",
    bytes(range(256)) * 40,
]


def test_a_predict_py_for_magika_equals_its_pipeline(
    bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", "uvicorn"))
    shutil.rmtree(project / "models")
    folder = located("magika", "magika/models/standard_v3_3/model.onnx").parent
    shutil.copytree(folder, project / "models")
    own = Path(__file__).parent / "pipelines/file_kinds.py"
    shutil.copy(own, project / "src/service/predict.py")
    describe = ["manifest", "models/model.onnx", "--name", "magika", "--version", "3.3"]
    bench.run([bench.python, "-m", "service", *describe], project, timeout=120)
    with Service(project, bench.python, {}) as service:
        service.wait_ready()

        def predict(*contents: bytes) -> Response:
            instances = [{"content": base64.b64encode(content).decode()} for content in contents]
            return post_json(service.port, "/predict", {"instances": instances})

        alone = [predict(content).json()["predictions"][0] for content in CONTENTS]
        together = predict(*CONTENTS).json()["predictions"]
        assert predict(CONTENTS[0], b"short").status == 422
    library = magika.Magika()
    for content, one, other in zip(CONTENTS, alone, together, strict=True):
        right = library.identify_bytes(content).prediction
        certain = right.overwrite_reason != OverwriteReason.LOW_CONFIDENCE
        for found in (one, other):
            assert (found["label"], found["certain"]) == (right.dl.label, certain)
            assert abs(found["score"] - right.score) < 1e-5
    assert len({one["label"] for one in alone}) > 3


def test_a_predict_py_for_silero_vad_equals_its_pipeline(
    bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", "uvicorn"))
    shutil.rmtree(project / "models")
    (project / "models").mkdir()
    shutil.copy(located("silero-vad", f"{VAD}silero_vad.onnx"), project / "models")
    own = Path(__file__).parent / "pipelines/speech.py"
    shutil.copy(own, project / "src/service/predict.py")
    describe = ["manifest", "models/silero_vad.onnx", "--name", "silero", "--version", "6"]
    bench.run([bench.python, "-m", "service", *describe], project, timeout=120)

    seconds = np.arange(2 * 12 * 512) / 16_000
    pitch = 2 * np.pi * 140 * seconds
    voice = sum(np.sin(pitch * tone) / tone for tone in range(1, 20)) * np.sin(20 * seconds) ** 2
    noise = np.random.default_rng(0).normal(0, 0.01, len(seconds))
    sounds = np.stack([0.2 * voice + noise, noise]).astype(np.float32)
    heard = np.pad(sounds, ((0, 0), (64, 0)))
    instances: list[dict[str, Any]] = [{}, {}]
    library = silero_vad.load_silero_vad(onnx=True)
    found, right = [], []
    with Service(project, bench.python, {}) as service:
        service.wait_ready()
        for start in range(0, sounds.shape[1], 512):
            for sound, instance in zip(heard, instances, strict=True):
                instance["samples"] = sound[start : start + 576].tolist()
            answer = post_json(service.port, "/predict", {"instances": instances})
            assert answer.status == 200, answer.body
            predictions = answer.json()["predictions"]
            for instance, prediction in zip(instances, predictions, strict=True):
                instance["memory"] = prediction["memory"]
            found.append([prediction["speech"] for prediction in predictions])
            right.append(library(torch.from_numpy(sounds[:, start : start + 512]), 16_000)[:, 0])
    np.testing.assert_allclose(found, np.stack(right), atol=1e-5)
    assert np.ptp(found) > 0.05


def located(package: str, file: str) -> Path:
    """Return the path of a file of an installed package."""
    return next(Path(str(path.locate())) for path in files(package) or [] if str(path) == file)


def answer_of_onnx_runtime(model: Path, inputs: Tensors) -> Tensors:
    """Run a model by ONNX Runtime itself."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def infer(port: int, inputs: Tensors) -> Tensors:
    """Ask for binary outputs with binary inputs, scalars in JSON."""
    tensors: list[dict[str, Any]] = []
    buffers = []
    for name, array in inputs.items():
        described = {"name": name, "datatype": DATATYPES[array.dtype.char], "shape": array.shape}
        if array.shape:
            buffers.append(array.tobytes())
            tensors.append({**described, "parameters": {"binary_data_size": array.nbytes}})
        else:
            tensors.append({**described, "data": [array.item()]})
    asked = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    header = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(header))}
    body = b"".join((header, *buffers))
    answer = ask(port, "POST", "/v2/models/own/infer", body, headers)
    assert answer.status == 200, answer.body
    length = int(answer.headers[JSON_LENGTH.lower()])
    outputs, at = {}, length
    for output in json.loads(answer.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        assert output["datatype"] == "FP32"
        values = np.frombuffer(answer.body[at : at + size], np.float32)
        outputs[output["name"]] = values.reshape(output["shape"])
        at += size
    return outputs
