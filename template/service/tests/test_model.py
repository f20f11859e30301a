"""The model answers what golden.json says. This file is yours: an update never touches it."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.predict import Instance

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("predict_endpoint")]

GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_bytes())


def test_examples_of_the_schema_are_valid() -> None:
    for example in Instance.model_json_schema().get("examples", []):
        Instance.model_validate_json(json.dumps(example))


async def test_predictions(client: httpx.AsyncClient) -> None:
    predictions = await predict(client, [entry["instance"] for entry in GOLDEN])
    assert len(predictions) == len(GOLDEN)
    for prediction, entry in zip(predictions, GOLDEN, strict=True):
        assert_close(prediction, entry["prediction"])


async def test_an_instance_alone_is_predicted_like_among_others(client: httpx.AsyncClient) -> None:
    for entry in GOLDEN:
        (prediction,) = await predict(client, [entry["instance"]])
        assert_close(prediction, entry["prediction"])


async def predict(client: httpx.AsyncClient, instances: list[Any]) -> list[dict[str, Any]]:
    answer = await client.post("/predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def assert_close(found: Any, expected: Any) -> None:
    """Compare JSON; numbers may differ by 0.02."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for item, value in zip(found, expected, strict=True):
            assert_close(item, value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.02)
    else:
        assert found == expected
