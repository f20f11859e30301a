"""The model answers what golden.json says. This file is yours: an update never touches it."""

import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.predict import Instance

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("predict_endpoint")]

TOLERANCE: Final = 0.02
"""By how much a number may be off."""

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


async def test_openais_clients_get_the_same_vectors(client: httpx.AsyncClient) -> None:
    if "/v1/embeddings" not in (await client.get("/openapi.json")).json()["paths"]:
        pytest.skip("the manifest does not say that the model is an embedding")
    instances = [entry["instance"] for entry in GOLDEN]
    predicted = (await client.post("/predict", json={"instances": instances})).json()
    texts = [instance["text"] for instance in instances]
    request = {"model": predicted["model"]["name"], "input": texts}
    answer = await client.post("/v1/embeddings", json=request)
    assert answer.status_code == 200, answer.text
    found = [item["embedding"] for item in answer.json()["data"]]
    assert_close(found, [entry["prediction"]["embedding"] for entry in GOLDEN])
    for vector, prediction in zip(found, predicted["predictions"], strict=True):
        assert vector == pytest.approx(prediction["embedding"], abs=1e-5)
    assert answer.json()["usage"]["total_tokens"] > len(texts)


async def predict(client: httpx.AsyncClient, instances: list[Any]) -> list[dict[str, Any]]:
    answer = await client.post("/predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def assert_close(prediction: Any, expected: Any) -> None:
    """Compare all that is in a prediction."""
    if isinstance(expected, dict):
        assert prediction.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(prediction[name], value)
    elif isinstance(expected, list):
        assert len(prediction) == len(expected)
        for one, other in zip(prediction, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert prediction == pytest.approx(expected, rel=1e-3, abs=TOLERANCE)
    else:
        assert prediction == expected
