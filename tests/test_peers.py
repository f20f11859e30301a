"""The peers of the benchmark: each is well described, and those installed here answer."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from inferplate.template.source import template_root
from inferplate_tools.client import ask
from inferplate_tools.service import free_port, wait_until
from inferplate_tools.workbench import project_environment

PEERS = template_root() / "benchmarks" / "peers"
NAMES = sorted(path.parent.name for path in PEERS.glob("*/peer.toml"))
TEXTS = {"title", "ready", "path", "content_type", "body", "answer"}
REQUIRED = TEXTS | {"requirements", "command"}
OPTIONAL = {"python", "environment", "variants"}
SWITCHES = {
    *("MLSERVER_MODEL_MAX_BATCH_SIZE", "MLSERVER_MODEL_MAX_BATCH_TIME"),
    *("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_HAPROXY_NBTHREAD", "RAY_SERVE_THROUGHPUT_OPTIMIZED"),
}
"""Variables of the peers themselves that only a variant sets."""
FEATURES, CLASSES = 4, 3
READY_SECONDS = 60


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((PEERS / name / "peer.toml").read_text(encoding="utf-8"))


def setups(name: str) -> Iterator[dict[str, Any]]:
    """Yield a peer as it comes, then each of its variants."""
    peer = read(name)
    variants = peer.pop("variants", {})
    yield peer
    for changes in variants.values():
        environment = peer.get("environment", {}) | changes.get("environment", {})
        yield peer | changes | {"environment": environment}


def body_of(setup: Mapping[str, Any], instances: list[list[float]]) -> str:
    """Fill a body: ``$shape`` is for protocols that want to be told [rows, features]."""
    shape = [len(instances), len(instances[0])]
    body: str = setup["body"].replace("$shape", json.dumps(shape))
    return body.replace("$instances", json.dumps(instances))


def is_installed(requirement: str) -> bool:
    try:
        version(Requirement(requirement).name)
    except PackageNotFoundError:
        return False
    return True


INSTALLED = [name for name in NAMES if all(map(is_installed, read(name)["requirements"]))]


def test_those_that_need_nothing_special_are_started() -> None:
    assert {"bare", "bare-inline", "naive"} <= set(INSTALLED)


@pytest.mark.parametrize("name", NAMES)
def test_description(name: str) -> None:
    peer = read(name)
    assert REQUIRED <= set(peer) <= REQUIRED | OPTIONAL
    for changes in peer.get("variants", {}).values():
        assert set(changes) <= (REQUIRED | OPTIONAL) - {"variants", "requirements", "python"}
        assert set(changes.get("environment", {})) <= set(peer["environment"]) | SWITCHES
    SpecifierSet(peer.get("python", ""))
    for setup in setups(name):
        assert all(isinstance(setup[key], str) for key in TEXTS)
        assert all(setup[key] for key in TEXTS - {"answer"})
        assert setup["path"].startswith("/")
        assert setup["ready"].startswith("/")
        assert setup["body"].count("$instances") == 1
        json.loads(body_of(setup, [[1.0]]))
        texts = [*setup["command"], *setup.get("environment", {}).values()]
        assert all(isinstance(text, str) for text in texts)
        placeholders = {found for text in texts for found in re.findall(r"{(\w+)}", text)}
        assert {"model", "port"} <= placeholders <= {"model", "port", "python"}


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_pinned(name: str) -> None:
    requirements = [Requirement(text) for text in read(name)["requirements"]]
    assert requirements == sorted(requirements, key=lambda requirement: requirement.name)
    for requirement in requirements:
        assert [part.operator for part in requirement.specifier] == ["=="]
        assert "*" not in str(requirement.specifier)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_compiles(name: str) -> None:
    source = (PEERS / name / "serve.py").read_text(encoding="utf-8")
    compile(source, "serve.py", "exec")


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_lint(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "benchmarks/peers"],
        cwd=template_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module", params=["FLOAT", "INT64"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a classifier whose input has that type, and whose last output is its probabilities."""
    datatype = TensorProto.DataType.Value(request.param)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["features"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("features", datatype, ["rows", FEATURES])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", CLASSES]),
        ],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path_factory.mktemp("peers") / "model.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@contextmanager
def running(name: str, setup: Mapping[str, Any], model: Path, log: Path) -> Iterator[int]:
    """Start a peer on a port of its own; leaving the context leaves no process behind."""
    port = free_port()
    places = {"{model}": str(model), "{port}": str(port), "{python}": sys.executable}

    def filled(text: str) -> str:
        for place, value in places.items():
            text = text.replace(place, value)
        return text

    settings = {key: filled(value) for key, value in setup.get("environment", {}).items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [filled(part) for part in setup["command"]],
            cwd=PEERS / name,
            env=project_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_ready() -> bool:
        try:
            return ask(port, "GET", setup["ready"]).status == 200
        except OSError:
            return False

    try:
        assert wait_until(lambda: process.poll() is not None or is_ready(), READY_SECONDS)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask_and_check(
    port: int,
    setup: Mapping[str, Any],
    session: onnxruntime.InferenceSession,
    instances: list[list[float]],
) -> None:
    (source,) = session.get_inputs()
    dtype = np.int64 if source.type == "tensor(int64)" else np.float32
    _, expected = session.run(None, {source.name: np.array(instances, dtype)})
    body = body_of(setup, instances).encode()
    answer = ask(port, "POST", setup["path"], body, {"Content-Type": setup["content_type"]})
    assert answer.status == 200, answer.body
    found = answer.json()
    for part in filter(None, setup["answer"].split(".")):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert np.allclose(np.array(found).reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("name", INSTALLED)
def test_it_answers_what_the_model_says(name: str, model: Path, tmp_path: Path) -> None:
    """Ask with one row, with three, and from sixteen clients at once, each with its own row."""
    session = onnxruntime.InferenceSession(model)
    rows = [[float((row * column) % 7) for column in range(FEATURES)] for row in range(64)]
    for setup in setups(name):
        if "RAY_SERVE_ENABLE_HA_PROXY" in setup.get("environment", {}):
            continue  # it listens on every interface, at ports of its own choice
        with running(name, setup, model, tmp_path / "server.log") as port:
            check = partial(ask_and_check, port, setup, session)
            check(rows[:1])
            check(rows[:3])
            with ThreadPoolExecutor(16) as clients:
                list(clients.map(check, [[row] for row in rows]))
