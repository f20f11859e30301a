"""Requests to /predict that would cost the service much: one at a time, with few errors listed."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from managed.conftest import Serve
from managed.importing import Shell
from managed.stand_in.predict import Instance
from managed.support import INFER, Doubler, rows, until
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.web import predict_front
from service.web.errors import InvalidValues
from service.web.predict_schema import PredictRequest
from service.web.strict_json import check_json

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


async def test_what_is_small_passes_while_something_large_is_converted(
    serve: Serve, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    running: list[int] = []
    convert = shell.main.to_tensors

    def to_tensors(instances: Sequence[Any]) -> Any:
        if len(instances) > 1:
            running.append(len(instances))
            assert gate.wait(timeout=20)
        return convert(instances)

    parsed: list[int] = []

    def check(body: bytes) -> None:
        parsed.append(len(body))
        check_json(body)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(predict_front, "check_json", check)
    large = json.dumps({"instances": [{"left": 1, "right": 2}] * 3000}).encode()
    async with serve(Doubler(), predict_endpoint=True) as service:
        first = asyncio.create_task(service.client.post("/predict", content=large, headers=JSON))
        await until(lambda: running == [3000])
        hurried = {**JSON, "request-timeout": "0.2"}
        late = await service.client.post("/predict", content=large, headers=hurried)
        second = asyncio.create_task(service.client.post("/predict", content=large, headers=JSON))
        small = await service.client.post(INFER, json=rows(1))
        live = await service.client.get("/v2/health/live")
        assert running == [3000]
        assert parsed == [len(large)]
        gate.set()
        answers = [await first, await second]
    assert late.status_code == 504
    assert (small.status_code, live.status_code) == (200, 200)
    assert [len(answer.json()["predictions"]) for answer in answers] == [3000, 3000]
    assert running == [3000, 3000]


async def test_one_large_request_is_parsed_and_converted_before_the_next_is_parsed(
    serve: Serve, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    model = Doubler()
    convert = shell.main.to_tensors

    def to_tensors(instances: Sequence[Any]) -> Any:
        if len(instances) > 1:
            steps.append("convert")
        return convert(instances)

    def check(body: bytes) -> None:
        steps.append("parse")
        check_json(body)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(predict_front, "check_json", check)
    body = json.dumps({"instances": [{"left": 1, "right": 2}] * 3000}).encode()
    async with serve(model, predict_endpoint=True, max_queue_size=9000) as service:
        model.gate.clear()
        tasks = [
            asyncio.create_task(service.client.post("/predict", content=body, headers=JSON))
            for _ in range(3)
        ]
        await until(lambda: len(steps) == 6)  # none waits for the model of another
        model.gate.set()
        answers = await asyncio.gather(*tasks)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert steps == ["parse", "convert"] * 3


async def test_nothing_large_is_parsed_while_many_instances_are_converted(
    serve: Serve, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    converting, go_on = threading.Event(), threading.Event()
    convert = shell.main.to_tensors

    def to_tensors(instances: Sequence[Any]) -> Any:
        if len(instances) == 1500:
            converting.set()
            go_on.wait(10)
        return convert(instances)

    def check(body: bytes) -> None:
        parsed.append(len(body))
        check_json(body)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(predict_front, "check_json", check)
    many, large = [
        json.dumps({"instances": [{"left": 1, "right": 2}] * count}).encode()
        for count in (1500, 3000)
    ]
    async with serve(Doubler(), predict_endpoint=True) as service:
        first = asyncio.create_task(service.client.post("/predict", content=many, headers=JSON))
        await until(converting.is_set)
        second = asyncio.create_task(service.client.post("/predict", content=large, headers=JSON))
        await asyncio.sleep(0.1)
        assert parsed == [len(many)]
        go_on.set()
        answers = await asyncio.gather(first, second)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert parsed == [len(many), len(large)]


async def test_the_turn_of_a_large_answer_lasts_until_it_is_json(serve: Serve) -> None:
    context = RequestContext(20)
    context.large = True
    async with serve(Doubler(), predict_endpoint=True, max_queue_size=3000) as service:
        predictor: Predictor[Any, Any] = service.app._offered["predictor"]
        instances = [Instance(left=1, right=2)] * 3000
        predictions = await predictor.with_context(context).predict(instances)
        assert len(predictions) == 3000
        assert predictor.turns.taken
        await asyncio.sleep(0)
        assert not predictor.turns.taken


async def test_a_model_of_single_instances_takes_many_without_a_turn_for_each(
    serve: Serve, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    convert = shell.main.to_tensors

    def to_tensors(instances: Sequence[Any]) -> Any:
        threads.add(threading.current_thread())
        return convert(instances)

    parsed: list[int] = []

    def check(body: bytes) -> None:
        parsed.append(len(body))
        check_json(body)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(predict_front, "check_json", check)
    body = json.dumps({"instances": [{"left": 1, "right": 2}] * 2100}).encode()
    model = Doubler()
    async with serve(model, predict_endpoint=True) as service:
        service.engine.batched = False
        model.gate.clear()
        tasks = [
            asyncio.create_task(service.client.post("/predict", content=body, headers=JSON))
            for _ in range(2)
        ]
        await until(lambda: len(parsed) == 2)  # none waits for the model of another
        model.gate.set()
        answers = await asyncio.gather(*tasks)
    assert [len(answer.json()["predictions"]) for answer in answers] == [2100, 2100]
    assert threads == {threading.main_thread()}


@pytest.mark.parametrize("wrong", [150, 0])
async def test_more_wrong_values_than_are_listed_are_counted(serve: Serve, wrong: int) -> None:
    right = {"left": 1, "right": 2}
    body = json.dumps({"instances": [right] * wrong + [{}] * 200, "surplus": 1}).encode()
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", content=body, headers=JSON)
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["detail"].startswith("400 fields ")
    assert len(problem["errors"]) == 100
    assert [error["field"] for error in problem["errors"][::50]] == [
        f"instances.{wrong}.left",
        f"instances.{wrong + 25}.left",
    ]


async def test_few_wrong_values_among_many_instances_are_listed(serve: Serve) -> None:
    instances = [{"left": 1, "right": 2}] * 250 + [{"left": 1}]
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", json={"instances": instances, "surplus": 1})
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {
        "instances.250.right",
        "surplus",
    }


async def test_many_unknown_keys_are_counted(serve: Serve) -> None:
    keys = {f"k{number}": 1 for number in range(300)}
    async with serve(Doubler(), predict_endpoint=True) as service:
        answers = [
            await service.client.post("/predict", json=document)
            for document in (
                {"instances": [{"left": 1, "right": 2, **keys}]},
                {"instances": [{"left": 1, "right": 2}], **keys},
                {"instances": [keys]},
            )
        ]
    counts = [answer.json()["detail"].split(maxsplit=1)[0] for answer in answers]
    assert counts == ["300", "300", "302"]
    assert [len(answer.json()["errors"]) for answer in answers] == [100] * 3


async def test_so_many_wrong_values_that_listing_some_takes_long_are_only_counted(
    serve: Serve,
) -> None:
    keys = {f"k{number}": 1 for number in range(10_000)}
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", json={"instances": [keys]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "10002 fields did not pass validation."
    assert answer.json()["errors"] == []


def test_frameworks_get_no_more_errors_than_are_listed() -> None:
    keys = {f"k{number}": 1 for number in range(100)}
    request: Any = PredictRequest[Instance]
    with pytest.raises(InvalidValues, match="101 fields"):
        request.model_validate({**keys, "instances": []})


async def test_numbers_that_are_not_finite_are_counted(serve: Serve) -> None:
    body = b'{"instances": [1, {"left": [' + b"NaN," * 200 + b"-Infinity]}]}"
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", content=body, headers=JSON)
    assert answer.json()["detail"].startswith("201 fields ")
    assert answer.json()["errors"][99]["field"] == "instances.1.left.99"


async def test_a_long_number_after_others_is_found(serve: Serve) -> None:
    body = b'{"instances": [{"left": 1, "right": ' + b"9" * 400 + b"}]}"
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == 422
