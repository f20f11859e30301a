"""The further path for predictions, as Vertex AI and SageMaker use it, where /predict is."""

from typing import Any

import pytest

from managed.conftest import Serve
from managed.support import Doubler

pytestmark = pytest.mark.anyio

PATH = "/invocations"
INSTANCES = {"instances": [{"left": 1.5, "right": -2.0}]}
ON = {"predict_endpoint": True, "predict_path": PATH}
WITH = {**INSTANCES, "parameters": {"top": 3}}


@pytest.mark.parametrize("parameters", [{"top": 3}, None, [], "x"])
async def test_parameters_are_ignored_there_only(serve: Serve, parameters: Any) -> None:
    async with serve(Doubler(), **ON) as service:
        ask = service.client
        given = {"parameters": parameters, **INSTANCES}
        own = await ask.post("/predict", json=INSTANCES)
        assert own.json()["predictions"] == [{"left": 3, "right": -4}]
        for body in (INSTANCES, given):
            assert (await ask.post(PATH, json=body)).json() == own.json()
        refused = await ask.post("/predict", json=given)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "parameters")


async def test_large_requests_too(serve: Serve) -> None:
    instances = INSTANCES["instances"] * 4_000
    async with serve(Doubler(), max_batch_size=64, **ON) as service:
        answer = await service.client.post(PATH, json={**WITH, "instances": instances})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 4_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"instances": [{"left": 1e400, "right": 2}], "parameters": {}}', 422),
        (b'{"instances": [{"left": 1, "right": 2}], "parameters": 1e400}', 422),
        (b'{"instances": [], "parameters": {}}', 422),
        (b'{"parameters": {}}', 422),
        (b'{"instances": [{"left": 1, "right": 2}], "parameters": {}, "other": 1}', 422),
        (b'{"parameters": 1, "parameters": 2}', 400),
        (b"[1]", 422),
        (b"", 400),
    ],
)
async def test_nothing_else_is_ignored(serve: Serve, body: bytes, status: int) -> None:
    async with serve(Doubler(), **ON) as service:
        headers = {"content-type": "application/json"}
        answer = await service.client.post(PATH, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_predict_itself_may_be_that_path(serve: Serve) -> None:
    async with serve(Doubler(), **{**ON, "predict_path": "/predict"}) as service:
        assert (await service.client.post("/predict", json=WITH)).status_code == 200


async def test_key_is_needed(serve: Serve) -> None:
    key = "a-key-that-is-long-enough"
    async with serve(Doubler(), api_keys=key, **ON) as service:
        for headers, status in (({}, 401), ({"x-api-key": key}, 200)):
            answer = await service.client.post(PATH, json=WITH, headers=headers)
            assert answer.status_code == status


async def test_description_has_the_parameters(serve: Serve) -> None:
    async with serve(Doubler(), **ON) as service:
        paths = (await service.client.get("/openapi.json")).json()["paths"]

    def properties(path: str) -> Any:
        return paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert properties(PATH)["properties"].keys() == {"instances", "parameters"}
    assert "properties" not in properties("/predict")
    assert paths[PATH]["post"]["operationId"] == "platform_predict"
