"""The model answers what golden.json says, whichever way it is asked."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import PROJECT

from service import manifest, runtime
from service.model import Instance, Prediction, to_predictions, to_tensors
from service.tensors import Tensors, check_inputs, datatype_of

pytestmark = pytest.mark.anyio

MODELS = PROJECT / "models"
GOLDEN: list[dict[str, Any]] = json.loads((PROJECT / "tests/golden.json").read_bytes())
INSTANCES = [Instance.model_validate(entry["instance"]) for entry in GOLDEN]


def test_examples_of_the_schema_are_valid() -> None:
    examples = Instance.model_json_schema()["examples"]
    assert [Instance.model_validate(example).model_dump() for example in examples] == examples


@pytest.mark.parametrize("rows", [1, len(GOLDEN)])
def test_artifact(rows: int) -> None:
    described = manifest.read(MODELS)
    artifact = manifest.verify(described, MODELS, runtime.RUNTIME)
    model = runtime.load(artifact, described, threads=1, device="cpu")
    predictions: list[Prediction] = []
    for start in range(0, len(GOLDEN), rows):
        inputs = to_tensors(INSTANCES[start : start + rows])
        check_inputs(described.input_specs(), inputs)
        outputs = model.run(inputs)
        check_inputs(described.output_specs(), outputs)
        predictions += to_predictions(outputs)
    assert_golden([prediction.model_dump() for prediction in predictions])


async def test_predict(client: httpx.AsyncClient) -> None:
    request = {"instances": [entry["instance"] for entry in GOLDEN]}
    answer = await client.post("/predict", json=request)
    assert answer.status_code == 200
    assert_golden(answer.json()["predictions"])


async def test_infer(client: httpx.AsyncClient) -> None:
    inputs = [
        {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": array.shape,
            "data": [
                value.decode() if isinstance(value, bytes) else value
                for value in array.ravel().tolist()
            ],
        }
        for name, array in to_tensors(INSTANCES).items()
    ]
    name = manifest.read(MODELS).name
    answer = await client.post(f"/v2/models/{name}/infer", json={"inputs": inputs})
    assert answer.status_code == 200
    outputs: Tensors = {
        output["name"]: np.reshape(output["data"], output["shape"])
        for output in answer.json()["outputs"]
    }
    assert_golden([prediction.model_dump() for prediction in to_predictions(outputs)])


def assert_golden(predictions: list[dict[str, Any]]) -> None:
    for prediction, entry in zip(predictions, GOLDEN, strict=True):
        expected = entry["prediction"]
        assert prediction["label"] == expected["label"]
        assert prediction["probabilities"] == pytest.approx(expected["probabilities"], abs=0.02)
