"""Further paths of the probe and of predictions: open, with keys, under a prefix, described."""

import httpx
import pytest

from managed.conftest import Serve, Start
from managed.support import INFER, Doubler, rows

pytestmark = pytest.mark.anyio

PATHS = {"health_path": "/ping", "predict_path": "/v1/endpoints/7:predict"}
KEY = "a-key-that-is-long-enough"


async def test_they_answer_as_the_others(serve: Serve) -> None:
    async with serve(Doubler(), **PATHS) as service:
        ask = service.client
        for method in ("GET", "HEAD", "POST"):
            further, own = [
                await ask.request(method, path) for path in ("/ping", "/v2/health/ready")
            ]
            assert (further.status_code, further.content) == (own.status_code, own.content)
        assert (await ask.get("/ping")).json() == {"live": True, "ready": True}
        for body in (rows(1, 2), {}, rows(1, id="a")):
            further, own = [
                await ask.post(path, json=body) for path in (PATHS["predict_path"], INFER)
            ]
            assert (further.status_code, further.content) == (own.status_code, own.content)
        wrong = await ask.get(PATHS["predict_path"])
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        metrics = (await ask.get("/metrics")).text
        assert "endpoints" not in metrics


async def test_probe_says_when_the_model_is_not_ready(start: Start, serve: Serve) -> None:
    async with serve(Doubler(), **PATHS) as service:
        await service.engine.close()
        assert (await service.client.get("/ping")).status_code == 503


async def test_there_are_none_by_default(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        assert (await service.client.get("/ping")).status_code == 404
        for path in ("/invocations", PATHS["predict_path"]):
            assert (await service.client.post(path, json=rows(1))).status_code == 404


async def test_probe_is_open_and_predictions_need_a_key(serve: Serve) -> None:
    async with serve(Doubler(), api_keys=KEY, **PATHS) as service:
        ask = service.client
        assert (await ask.get("/ping")).status_code == 200
        for headers, status in (({}, 401), ({"x-api-key": KEY}, 200)):
            answer = await ask.post(PATHS["predict_path"], json=rows(1), headers=headers)
            assert answer.status_code == status


@pytest.mark.parametrize("under", ["/iris", ""])
async def test_they_are_under_the_prefix(serve: Serve, under: str) -> None:
    async with serve(Doubler(), root_path="/iris", **PATHS) as service:
        assert (await service.client.get(f"{under}/ping")).status_code == 200
        answer = await service.client.post(under + PATHS["predict_path"], json=rows(1))
        assert answer.status_code == 200


async def test_they_are_described(serve: Serve) -> None:
    async with serve(Doubler(), **PATHS) as service:
        paths = (await service.client.get("/openapi.json")).json()["paths"]
    assert paths["/ping"]["get"]["operationId"] == "platform_ready"
    assert paths[PATHS["predict_path"]]["post"]["operationId"] == "platform_infer"


async def test_routes_of_the_owner_come_first(serve: Serve) -> None:
    async with serve(Doubler(), health_path="/own/orders") as service:
        answer = await service.client.post("/own/orders", json={"count": 0})
        assert answer.status_code == 422
        paths = (await service.client.get("/openapi.json")).json()["paths"]
        assert "platform_ready" not in str(paths)


async def test_path_of_the_protocol_keeps_its_meaning(start: Start, serve: Serve) -> None:
    async with serve(Doubler(), health_path="/v2/health/live", predict_path=INFER) as service:
        assert (await service.client.get("/v2/health/live")).json() == {"live": True}
        answer: httpx.Response = await service.client.post(INFER, json=rows(1))
        assert answer.status_code == 200
