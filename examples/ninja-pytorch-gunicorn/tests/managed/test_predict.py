"""/predict, with the instances and predictions of ``stand_in/predict.py``."""

import json
from typing import Any

import httpx
import pytest

from managed.conftest import Serve
from managed.importing import Shell
from managed.support import Doubler

pytestmark = pytest.mark.anyio

INSTANCE = {"left": 1.5, "right": -2.0}
DEEP = b"[" * 300 + b"]" * 300


def with_number(text: str) -> str:
    """Return JSON of an instance with a number, as it is spelt here."""
    return json.dumps({"instances": [{"left": 0.5, "right": 2}]}).replace("0.5", text)


async def test_instances_are_predicted_in_their_order(client: httpx.AsyncClient) -> None:
    instances = [{"left": value, "right": -value} for value in range(5)]
    answer = await client.post("/predict", json={"instances": instances})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "predictions": [{"left": 2 * value, "right": -2 * value} for value in range(5)],
        "model": {"name": "doubler", "version": "1"},
    }


@pytest.mark.filterwarnings("ignore:overflow encountered")
async def test_numbers_that_json_does_not_have_are_null(client: httpx.AsyncClient) -> None:
    answer = await client.post("/predict", json={"instances": [{"left": 1e300, "right": 1}]})
    assert b"Infinity" not in answer.content
    assert answer.json()["predictions"] == [{"left": None, "right": 2}]


async def test_every_wrong_field_is_named_from_the_top_of_the_body(
    client: httpx.AsyncClient,
) -> None:
    wrong = {**INSTANCE, "left": {"not": "a number"}}
    answer = await client.post("/predict", json={"instances": [INSTANCE, wrong, {}]})
    problem = assert_problem(answer, 422)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {error["field"] for error in problem["errors"]} == {
        "instances.1.left",
        "instances.2.left",
        "instances.2.right",
    }
    assert all(error["reason"] for error in problem["errors"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "instances"),
        ('{"instances": []}', "instances"),
        ('{"instances": 1}', "instances"),
        ('{"instances": [1]}', "instances.0"),
        ("[]", ""),
        ("1", ""),
        ("null", ""),
        ('"text"', ""),
        ('{"instances": [{"left": 1, "right": 2}], "surplus": 1}', "surplus"),
        ('{"instances": [{"left": 1, "right": 2, "surplus": 1}]}', "instances.0.surplus"),
        ('{"instances": [{"left": "1", "right": 2}]}', "instances.0.left"),
        ('{"instances": [{"left": true, "right": 2}]}', "instances.0.left"),
        ('{"instances": [{"left": NaN, "right": 2}]}', "instances.0.left"),
        ('{"instances": [{"left": 1, "right": -Infinity}]}', "instances.0.right"),
        ('{"instances": [{"left": 1e999, "right": 2}]}', "instances.0.left"),
        ('{"instances": [{"left": 1, "right": -1E+400}]}', "instances.0.right"),
        (with_number("1e999") + " " * 2**20, "instances.0.left"),
        (with_number("1" + "0" * 400 + ".0"), "instances.0.left"),
        (with_number("1" + "0" * 250 + "e99"), "instances.0.left"),
    ],
)
async def test_wrong_values(client: httpx.AsyncClient, body: str, field: str) -> None:
    problem = assert_problem(await post(client, body.encode()), 422)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_the_first_hundred_wrong_values_are_listed(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await post(client, b'{"instances": [' + b"{}," * 80 + b"{}]}"), 422)
    assert problem["detail"].startswith("162 fields ")
    assert len(problem["errors"]) == 100
    assert problem["errors"][0]["field"] == "instances.0.left"


@pytest.mark.parametrize("number", ["1e99", "0.1e+300", "1e-400", "0e500", "0" + "." + "0" * 400])
@pytest.mark.filterwarnings("ignore:overflow")  # of the conversion to FP32
async def test_finite_numbers_of_any_length(client: httpx.AsyncClient, number: str) -> None:
    answer = await post(client, with_number(number).encode())
    assert answer.status_code == 200, answer.text
    left = answer.json()["predictions"][0]["left"]
    assert left == (None if "e99" in number or "300" in number else 0)  # an infinite FP32 is null


async def test_words_are_not_taken_for_numbers(client: httpx.AsyncClient) -> None:
    body = b'{"instances": [{"left": 1, "right": 2, "NaN": "Infinity"}]}'
    problem = assert_problem(await post(client, body), 422)
    assert [error["field"] for error in problem["errors"]] == ["instances.0.NaN"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": []} x',
        b'{"instances": ["\xff"]}',
        b'{"instances": [], "instances": []}',
        b'{"instances": [{"left": 1, "left": 1, "right": 2}]}',
        b'{"instances": [{"left": nan, "right": 2}]}',
        b'{"instances": [{"left": 01, "right": 2}]}',
        b'{"instances": ' + DEEP + b"}",
        b'{"instances": ' + b"[" * 50_000 + b"}",
    ],
    ids=[
        "nothing",
        "cut off",
        "more than one value",
        "not UTF-8",
        "repeated key",
        "repeated key in an instance",
        "unknown word",
        "leading zero",
        "too deep",
        "far too deep",
    ],
)
async def test_bodies_that_are_not_strict_json(client: httpx.AsyncClient, body: bytes) -> None:
    assert_problem(await post(client, body), 400)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        "+json",
        "a/x+json",
        "application/a/json",
    ],
)
async def test_other_content_types(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(
        "/predict",
        content=json.dumps({"instances": [INSTANCE]}),
        headers={"content-type": content_type},
    )
    assert_problem(answer, 415)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
async def test_content_types_of_json(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(
        "/predict",
        content=json.dumps({"instances": [INSTANCE]}),
        headers={"content-type": content_type},
    )
    assert answer.status_code == 200, answer.text


async def test_wrong_methods(client: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        wrong_method = await client.request(method, "/predict")
        assert_problem(wrong_method, 405)
        assert wrong_method.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/predict/", "//predict", "/predict/x", "/Predict", "/docs/no"])
async def test_there_is_nothing_beside_it(client: httpx.AsyncClient, path: str) -> None:
    url = f"http://service{path}"
    assert_problem(await client.get(url), 404)
    assert_problem(await client.post(url, json={"instances": [INSTANCE]}), 404)


async def test_limits_are_settings(serve: Serve) -> None:
    limits = {"max_body_bytes": 2000, "max_instances": 1}
    async with serve(Doubler(), predict_endpoint=True, **limits) as service:
        fitting = await post(service.client, json.dumps({"instances": [INSTANCE]}).encode())
        surplus = await post(service.client, json.dumps({"instances": [INSTANCE] * 2}).encode())
        large = await post(service.client, b" " * 2001)
    assert fitting.status_code == 200
    assert_problem(surplus, 413)
    assert_problem(large, 413)


@pytest.mark.parametrize(
    ("batched", "count", "status"), [(True, 3, 413), (True, 3000, 413), (False, 3, 200)]
)
async def test_more_instances_than_the_queue_takes_are_not_parsed(
    serve: Serve, batched: bool, count: int, status: int
) -> None:
    body = json.dumps({"instances": [INSTANCE] * count}).encode()
    async with serve(Doubler(), predict_endpoint=True, max_queue_size=2) as service:
        service.engine.batched = batched
        answer = await post(service.client, body)
    assert answer.status_code == status, answer.text
    if batched:
        assert "up to 2 instances" in assert_problem(answer, 413)["detail"]


async def test_time_that_the_client_waits(client: httpx.AsyncClient) -> None:
    request = {"instances": [INSTANCE]}
    wrong = await client.post("/predict", json=request, headers={"request-timeout": "-1"})
    assert_problem(wrong, 400)
    assert "Request-Timeout" in wrong.json()["detail"]
    late = await client.post("/predict", json=request, headers={"request-timeout": "0.000000001"})
    assert_problem(late, 504)
    answer = await client.post("/predict", json=request, headers={"request-timeout": "30"})
    assert answer.status_code == 200


async def test_failure_of_the_model_stays_inside(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, predict_endpoint=True) as service:
        instance = {**INSTANCE, "left": model.poison}
        answer = await service.client.post("/predict", json={"instances": [instance]})
    assert_problem(answer, 500)
    assert "secret" not in answer.text


@pytest.mark.parametrize("surplus", [-1, 1])
async def test_another_number_of_predictions_is_a_failure(
    serve: Serve,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    surplus: int,
) -> None:
    one = shell.main.Prediction(left=1, right=1)
    monkeypatch.setattr(shell.main, "to_predictions", lambda outputs: [one] * (2 + surplus))
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", json={"instances": [INSTANCE] * 2})
    assert_problem(answer, 500)
    assert f"2 instances gave {2 + surplus} predictions" in caplog.text


async def test_endpoint_can_be_switched_off(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post("/predict", json={"instances": [INSTANCE]})
        document = (await service.client.get("/openapi.json")).json()
    assert_problem(answer, 404)
    assert "/predict" not in document["paths"]


async def test_schema_of_an_instance_is_pydantics(client: httpx.AsyncClient, shell: Shell) -> None:
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    schema = document["components"]["schemas"]["Instance"]
    own = shell.main.Instance.model_json_schema()
    assert "/predict" in document["paths"]
    assert schema["properties"] == own["properties"]
    assert schema["required"] == own["required"]
    assert schema["additionalProperties"] is False
    assert schema["examples"] == own["examples"]
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == {"instances": own["examples"]}


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
