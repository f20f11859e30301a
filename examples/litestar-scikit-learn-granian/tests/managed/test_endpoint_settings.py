"""Every setting of the endpoints beside the protocol does something, off its default."""

import json

import pytest

from managed.conftest import Serve
from managed.support import Doubler
from managed.test_every_setting import around
from service.ops.endpoint_settings import EndpointSettings

pytestmark = pytest.mark.anyio

INSTANCE = {"left": 1, "right": 2}
PREDICT = json.dumps({"instances": [INSTANCE] * 3}).encode()


def test_there_is_a_test_for_every_setting() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert EndpointSettings.model_fields.keys() <= tested


async def test_predict_endpoint(serve: Serve) -> None:
    for there in (True, False):
        async with serve(Doubler(), predict_endpoint=there) as service:
            answer = await service.client.post("/predict", json={"instances": [INSTANCE]})
            document = (await service.client.get("/openapi.json")).json()
        assert answer.status_code == (200 if there else 404)
        assert ("/predict" in document["paths"]) is there
        assert ("PredictRequest" in document["components"]["schemas"]) is there


async def test_max_predict_values(serve: Serve) -> None:
    values = sum(map(PREDICT.count, (b",", b"[", b"{", b":")))
    found = await around(serve, "max_predict_values", values, PREDICT, "/predict")
    assert found == [200, 413]


async def test_max_instances(serve: Serve) -> None:
    assert await around(serve, "max_instances", 3, PREDICT, "/predict") == [200, 413]


async def test_max_json_bytes(serve: Serve) -> None:
    assert await around(serve, "max_json_bytes", len(PREDICT), PREDICT, "/predict") == [200, 413]
