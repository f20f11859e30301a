"""The typed endpoint, whatever model.py says an instance is."""

import json
from typing import Any

import httpx
import pytest
from conftest import Doubler, Serve, Shipped

from service.model import Instance
from service.typed import PredictResponse

pytestmark = pytest.mark.anyio

EXAMPLE: dict[str, Any] = Instance.model_json_schema()["examples"][0]
FIELD = next(iter(EXAMPLE))


async def test_examples_of_the_schema_are_predicted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/predict", json={"instances": [EXAMPLE] * 3})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    response = PredictResponse.model_validate_json(answer.content)
    assert len(response.predictions) == 3
    assert response.predictions[0] == response.predictions[2]
    model = (await client.get(f"/v2/models/{response.model.name}")).json()
    assert model["versions"] == [response.model.version]


async def test_values_that_break_the_schema(client: httpx.AsyncClient) -> None:
    wrong = {**EXAMPLE, FIELD: {"not": "a value"}}
    answer = await client.post("/predict", json={"instances": [EXAMPLE, wrong, {}]})
    problem = assert_problem(answer, 422)
    assert problem["request_id"] == answer.headers["x-request-id"]
    fields = [error["field"] for error in problem["errors"]]
    assert f"instances.1.{FIELD}" in fields
    assert f"instances.2.{FIELD}" in fields
    assert all(error["reason"] for error in problem["errors"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "instances"),
        (b'{"instances": []}', "instances"),
        (b'{"instances": 1}', "instances"),
        (b"[]", ""),
        (json.dumps({"instances": [EXAMPLE], "surplus": 1}).encode(), "surplus"),
        (json.dumps({"instances": [{**EXAMPLE, "surplus": 1}]}).encode(), "instances.0.surplus"),
        (json.dumps({"instances": [{**EXAMPLE, FIELD: float("nan")}]}).encode(), None),
        (json.dumps({"instances": [{**EXAMPLE, FIELD: float("-inf")}]}).encode(), None),
    ],
)
async def test_wrong_values(client: httpx.AsyncClient, body: bytes, field: str | None) -> None:
    problem = assert_problem(await post(client, body), 422)
    assert [error["field"] for error in problem["errors"]] == [
        f"instances.0.{FIELD}" if field is None else field
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": []} x',
        b'{"instances": ["\xff"]}',
        b'{"instances": [], "instances": []}',
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
async def test_bodies_that_are_not_json(client: httpx.AsyncClient, body: bytes) -> None:
    assert_problem(await post(client, body), 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_content_types(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(
        "/predict",
        content=json.dumps({"instances": [EXAMPLE]}),
        headers={"content-type": content_type},
    )
    assert_problem(answer, 415)


async def test_wrong_method_and_unknown_paths(client: httpx.AsyncClient) -> None:
    wrong_method = await client.get("/predict")
    assert_problem(wrong_method, 405)
    assert wrong_method.headers["allow"] == "POST"
    for path in ("/", "/predict/", "/no", "/docs/no"):
        assert_problem(await client.get(path), 404)


async def test_limits_are_settings(shipped: Shipped) -> None:
    async with shipped(max_body_bytes=2000, max_instances=1) as service:
        surplus = await post(service.client, json.dumps({"instances": [EXAMPLE] * 2}).encode())
        large = await post(service.client, b" " * 2001)
    assert_problem(surplus, 413)
    assert_problem(large, 413)


async def test_time_that_the_client_waits(client: httpx.AsyncClient) -> None:
    request = {"instances": [EXAMPLE]}
    wrong = await client.post("/predict", json=request, headers={"request-timeout": "-1"})
    assert_problem(wrong, 400)
    assert "Request-Timeout" in wrong.json()["detail"]
    late = await client.post("/predict", json=request, headers={"request-timeout": "0.000000001"})
    assert_problem(late, 504)
    answer = await client.post("/predict", json=request, headers={"request-timeout": "30"})
    assert answer.status_code == 200


async def test_endpoint_can_be_switched_off(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post("/predict", json={"instances": [EXAMPLE]})
        document = (await service.client.get("/openapi.json")).json()
    assert_problem(answer, 404)
    assert "/predict" not in document["paths"]


async def test_keys(serve: Serve) -> None:
    key = "a-key-that-is-long-enough"
    infer = "/v2/models/doubler/infer"
    async with serve(Doubler(), api_keys=f"{key}, another-key-long-enough") as service:
        ask = service.client
        for path in ("/v2/health/ready", "/v2/health/live", "/metrics", "/docs", "/openapi.json"):
            assert (await ask.get(path)).status_code == 200
        for headers in ({}, {"x-api-key": key[:-1]}, {"authorization": f"Basic {key}"}):
            assert (await ask.post(infer, json={}, headers=headers)).status_code == 401
        refused = await ask.post("/predict", json={})
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert (await ask.post(infer, json={}, headers=headers)).status_code == 400
    assert_problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"


async def post(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/predict", content=body, headers={"content-type": "application/json"})


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem
