"""The model answers what golden.json says. This file is yours: an update never touches it."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.predict import Instance

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("predict_endpoint")]

TOLERANCE: Final = 0.02
"""By how much a number may be off."""

GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_bytes())
WITH_IMAGE: Final = [entry for entry in GOLDEN if entry["instance"].keys() == {"image"}]
FILES: Final = [b64decode(entry["instance"]["image"]) for entry in WITH_IMAGE]

needs_images = pytest.mark.skipif(not FILES, reason="golden.json has no instances with an image")


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


@needs_images
async def test_files_in_a_form_are_predicted_like_base64(client: httpx.AsyncClient) -> None:
    answer = await client.post("/predict", files=[("image", ("file", each)) for each in FILES])
    predictions = read_predictions(answer)
    assert len(predictions) == len(FILES)
    for prediction, entry in zip(predictions, WITH_IMAGE, strict=True):
        assert_close(prediction, entry["prediction"])


@needs_images
async def test_a_file_as_the_body_is_predicted_like_base64(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "image/png"}
    for file, entry in zip(FILES, WITH_IMAGE, strict=True):
        answer = await client.post("/predict", content=file, headers=headers)
        (prediction,) = read_predictions(answer)
        assert_close(prediction, entry["prediction"])


async def predict(client: httpx.AsyncClient, instances: list[Any]) -> list[dict[str, Any]]:
    return read_predictions(await client.post("/predict", json={"instances": instances}))


def read_predictions(answer: httpx.Response) -> list[dict[str, Any]]:
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
