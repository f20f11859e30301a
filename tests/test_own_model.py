"""A model of the user's own: by its manifest alone, and with a predict.py of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, COVERING_VARIANTS, Covers
from history import MakeProject, commit, update

from inferplate.git import Git
from inferplate.template.variants import Variant
from inferplate_tools.client import alike, decode_outputs, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

pytestmark = pytest.mark.slow

ONNX_PAIRS = [
    variant
    for variant in ALL_VARIANTS
    if variant.runtime == "onnxruntime" and variant.server == "uvicorn"
]
HOUSES = [
    {"area": 100.0, "rooms": 4, "garden": True},
    {"area": 50.0, "rooms": 2, "garden": False},
]
PRICES = [100 * 3000 + 4 * 1000 + 5000, 50 * 3000 + 2 * 1000]
TRAIN_HOUSES = """
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LinearRegression

features = np.random.default_rng(0).uniform(0, 10, (50, 3)).astype(np.float32)
model = LinearRegression().fit(features, features @ [3000, 1000, 5000])
graph = to_onnx(
    model,
    initial_types=[("features", FloatTensorType([None, 3]))],
    target_opset=17,
    black_op={"LinearRegressor"},  # OpenVINO does not have it.
)
for node in graph.graph.node:
    node.output[:] = ["price" if name == "variable" else name for name in node.output]
graph.graph.output[0].name = "price"
Path("models").mkdir()
Path("models/house-prices.onnx").write_bytes(graph.SerializeToString())
"""
SAVE_FOR_SCIKIT_LEARN = """
from skops.io import dump

dump(model, "models/house-prices.skops")
"""


@pytest.mark.slow
@pytest.mark.parametrize("owned", COVERING_VARIANTS, ids=str)
def test_an_artifact_is_served_from_the_manifest_that_the_command_writes(
    owned: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("an own artifact: described by the command, served", owned, len(COVERING_VARIANTS))
    project = copy_of(owned)
    golden = Golden.of(project)
    artifact = take_artifact_away(project)
    describe = ["manifest", str(artifact), "--name", "own", "--version", "2026.11"]
    bench.run([bench.python, "-m", "service", *describe], project, timeout=120)
    settings = {"SERVICE_MODEL_DIR": str(artifact.parent), "SERVICE_PREDICT_ENDPOINT": "false"}
    with Service(project, bench.python, {**settings, "SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        request = golden.infer_request
        written = json.loads((artifact.parent / "manifest.json").read_bytes())
        described = {key: written["inputs"][0][key] for key in ("name", "datatype")}
        request["inputs"][0].update(described)
        answer = post_json(service.port, "/v2/models/own/versions/2026.11/infer", request)
        assert answer.status == 200, answer.body
        probabilities = [list(known["probabilities"].values()) for known in golden.predictions]
        flat = [value for row in probabilities for value in row]
        assert any(alike(flat, output, 0.02) for output in decode_outputs(answer).values())
        assert post_json(service.port, "/predict", golden.typed_request).status == 404


@pytest.mark.slow
@pytest.mark.parametrize("pair", ONNX_PAIRS, ids=lambda pair: str(pair.framework))
def test_the_readmes_different_model_needs_predict_py_and_the_artifact_only(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, template: Path
) -> None:
    project = copy_of(pair)
    shutil.rmtree(project / "models")
    put_house_prices(project, bench, template)
    check_house_prices(project, bench)


@pytest.mark.parametrize("frameworks", [("litestar", "ninja"), ("ninja", "litestar")], ids="-".join)
def test_after_each_switch_of_the_framework_the_own_model_is_still_served(
    frameworks: tuple[str, str], make_project: MakeProject, bench: Workbench, template: Path
) -> None:
    """Begin and end with FastAPI, so that both rounds together are all six switches."""
    project = make_project()
    put_house_prices(project, bench, template)
    servers = ("granian", "gunicorn", "hypercorn")
    for framework, server in zip([*frameworks, "fastapi"], servers, strict=True):
        commit(Git(project), f"before {framework}")
        plan = update(project, framework=framework, server=server)
        assert (plan.conflicts, plan.to_delete, plan.to_port) == ({}, [], [])
        check_house_prices(project, bench, suite=False)


def test_after_a_switch_of_the_runtime_the_own_model_is_served_when_described_anew(
    make_project: MakeProject, bench: Workbench, template: Path
) -> None:
    project = make_project(Variant("litestar", "onnxruntime", "granian"))
    put_house_prices(project, bench, template, TRAIN_HOUSES + SAVE_FOR_SCIKIT_LEARN)
    described = {
        "openvino": ["house-prices.onnx"],
        "scikit-learn": [
            *("house-prices.skops", "--input", "features:FP32:-1,3", "--output", "price:FP32:-1")
        ],
    }
    for runtime, arguments in described.items():
        commit(Git(project), f"before {runtime}")
        plan = update(project, runtime=runtime)
        assert (plan.conflicts, plan.to_delete) == ({}, [])
        assert {"models/house-prices.onnx", "models/manifest.json", "train.py"} < {*plan.to_port}
        describe(project, bench, *arguments)
        check_house_prices(project, bench, suite=False)


def put_house_prices(
    project: Path, bench: Workbench, template: Path, train: str = TRAIN_HOUSES
) -> None:
    """Replace the example by the different model of the README."""
    for name in ("golden.json", "test_model.py"):
        (project / "tests" / name).unlink()
    (project / "train.py").write_text(train, encoding="utf-8")
    own = template / "template/examples/tabular/own_predict.py"
    shutil.copy(own, project / "src/service/predict.py")
    bench.run([bench.python, "train.py"], project, timeout=120)
    describe(project, bench, "house-prices.onnx")


def describe(project: Path, bench: Workbench, file: str, *options: str) -> None:
    command = ["manifest", f"models/{file}", "--name", "house-prices", "--version", "1", *options]
    bench.run([bench.python, "-m", "service", *command], project, timeout=120)


def check_house_prices(project: Path, bench: Workbench, *, suite: bool = True) -> None:
    """Run the suite, which has stand-ins only here, and ask for predictions over HTTP."""
    if suite:
        bench.run([bench.python, "-m", "pytest", "-q", "-p", "no:copie"], project, timeout=300)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        answer = post_json(service.port, "/predict", {"instances": HOUSES})
        assert answer.status == 200, answer.body
        prices = [prediction["price"] for prediction in answer.json()["predictions"]]
        service.terminate()
        service.wait_exit()
    assert prices == pytest.approx(PRICES, rel=1e-3)


def take_artifact_away(project: Path) -> Path:
    """Move the example's artifact to a folder and a name of its own, without its manifest."""
    manifest = json.loads((project / "models/manifest.json").read_bytes())
    folder = project / "mine"
    shutil.move(project / "models", folder)
    (folder / "manifest.json").unlink()
    return folder / str(manifest["file"])
