"""Emitted services: rendered, installed, and given a model."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from inferplate.template.variants import Variant
from inferplate_tools.bench.contestants import Contestant, Exchange, matches, numbers_in
from inferplate_tools.bench.environments import environment, packages
from inferplate_tools.bench.load import Request
from inferplate_tools.bench.models import Model
from inferplate_tools.client import (
    JSON_LENGTH,
    InputTensor,
    Response,
    alike,
    binary_request,
    decode_outputs,
    json_request,
)
from inferplate_tools.golden import Golden
from inferplate_tools.repository import BENCHMARKS
from inferplate_tools.workbench import Workbench, project_environment

EXAMPLE: Final = "example"
"""The model that the emitted project trains itself, whatever its runtime."""
ONNX_RUNTIMES: Final = ("onnxruntime", "openvino")

_GOLDEN_TOLERANCE: Final = 0.02
_JSON: Final = "application/json"


def prepare_service(
    bench: Workbench,
    variant: Variant,
    model: Model | None,
    folder: Path,
    *,
    name: str,
    workers: int,
    shared_python: str | None,
    python: str | None,
) -> Contestant:
    """Emit a variant into a folder, install what it needs, and give it a model as its README says.

    ``model``: None for the one that the project trains itself. ``shared_python``: an interpreter
    that has what it needs already. ``python``: the version or path of one to install it on, this
    one if None.

    Raises:
        CheckFailed: it cannot be installed, or does not take the model.
    """
    shutil.copytree(bench.project(variant), folder)
    interpreter = shared_python or _install(folder, variant, python, train=model is None)
    settings = {"SERVICE_PORT": "{port}", "SERVICE_WORKERS": str(workers)}
    if model is None:
        bench.run([interpreter, "train.py"], folder, timeout=600)
        wires = _example_wires(Golden.of(folder, interpreter))
    else:
        _place(bench, interpreter, model, folder)
        wires = _model_wires(model)
        if not model.is_typed:
            settings["SERVICE_PREDICT_ENDPOINT"] = "false"
    bench.run([interpreter, "-m", "compileall", "-q", "src"], folder, timeout=60)
    return Contestant(
        name=name,
        command=[interpreter, "-m", "service"],
        folder=folder,
        environment=project_environment(settings),
        ready="/v2/health/ready",
        wires=wires,
        python=interpreter,
        is_peer=False,
        versions=packages(interpreter),
    )


def _install(folder: Path, variant: Variant, python: str | None, *, train: bool) -> str:
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    needed = list(project["project"]["dependencies"])
    arguments = ["-r", "pyproject.toml"]
    if train:
        needed += project["dependency-groups"]["train"]
        arguments += ["--group", "train"]
    return environment(variant.name, arguments, needed, folder=folder, python=python)


def _place(bench: Workbench, python: str, model: Model, folder: Path) -> None:
    models = folder / "models"
    models.mkdir(exist_ok=True)
    for path in model.path.parent.glob(f"{model.path.name}*"):
        shutil.copy(path, models)
    artifact = str(models / model.path.name)
    describe = ["manifest", artifact, "--name", model.name, "--version", "1"]
    bench.run([python, "-m", "service", *describe], folder, timeout=300)
    if model.is_typed:
        shutil.copy(BENCHMARKS / "service" / "predict.py", folder / "src" / "service")


def _model_wires(model: Model) -> dict[str, Callable[[int], Exchange]]:
    path = f"/v2/models/{model.name}/infer"

    def outputs_are_right(rows: int) -> Callable[[Response], bool]:
        expected = {name: array.ravel().tolist() for name, array in model.answers(rows).items()}

        def is_right(answer: Response) -> bool:
            found = decode_outputs(answer)
            return found.keys() == expected.keys() and all(
                matches(found[name], [expected[name]]) for name in expected
            )

        return is_right

    def as_json(rows: int) -> Exchange:
        inputs = [
            {
                "name": tensor.name,
                "shape": [rows, *tensor.shape],
                "datatype": tensor.datatype,
                "data": model.batch(rows)[tensor.name].ravel().tolist(),
            }
            for tensor in model.inputs
        ]
        return Exchange(_json_request(path, {"inputs": inputs}), outputs_are_right(rows))

    def as_binary(rows: int) -> Exchange:
        batch = model.batch(rows)
        inputs = [
            {
                "name": tensor.name,
                "shape": [rows, *tensor.shape],
                "datatype": tensor.datatype,
                "parameters": {"binary_data_size": batch[tensor.name].nbytes},
            }
            for tensor in model.inputs
        ]
        document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
        header = json.dumps(document).encode()
        body = header + b"".join(batch[tensor.name].tobytes() for tensor in model.inputs)
        headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(header))}
        return Exchange(Request(path, body, headers), outputs_are_right(rows))

    def as_typed(rows: int) -> Exchange:
        batch = model.batch(rows)[model.inputs[0].name].tolist()
        document = {"instances": [{"features": row} for row in batch]}
        expected = [array.ravel().tolist() for array in model.answers(rows).values()]
        return Exchange(
            _json_request("/predict", document),
            lambda answer: matches(list(numbers_in(answer.json()["predictions"])), expected),
        )

    tensors: dict[str, Callable[[int], Exchange]] = {"json": as_json, "binary": as_binary}
    return tensors | {"typed": as_typed} if model.is_typed else tensors


def _example_wires(golden: Golden) -> dict[str, Callable[[int], Exchange]]:
    def first(rows: int) -> tuple[list[Any], list[Any], list[InputTensor]]:
        chosen = [number % len(golden.instances) for number in range(rows)]
        instances = [golden.instances[number] for number in chosen]
        predictions = [golden.predictions[number] for number in chosen]
        return instances, predictions, [tensor.of_rows(chosen) for tensor in golden.inputs]

    def outputs_are_right(predictions: list[Any]) -> Callable[[Response], bool]:
        expected = list(numbers_in(predictions))

        def is_right(answer: Response) -> bool:
            found = [number for output in decode_outputs(answer).values() for number in output]
            return all(
                any(alike(number, other, _GOLDEN_TOLERANCE) for other in found)
                for number in expected
            )

        return is_right

    def as_json(rows: int) -> Exchange:
        _, predictions, inputs = first(rows)
        request = _json_request(golden.infer_path, json_request(inputs))
        return Exchange(request, outputs_are_right(predictions))

    def as_binary(rows: int) -> Exchange:
        _, predictions, inputs = first(rows)
        body, headers = binary_request(inputs)
        return Exchange(Request(golden.infer_path, body, headers), outputs_are_right(predictions))

    def as_typed(rows: int) -> Exchange:
        instances, predictions, _ = first(rows)
        return Exchange(
            _json_request("/predict", {"instances": instances}),
            lambda answer: alike(answer.json()["predictions"], predictions, _GOLDEN_TOLERANCE),
        )

    return {"json": as_json, "binary": as_binary, "typed": as_typed}


def _json_request(path: str, document: Any) -> Request:
    return Request(path, json.dumps(document).encode(), {"Content-Type": _JSON})
