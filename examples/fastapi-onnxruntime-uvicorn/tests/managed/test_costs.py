"""Requests that would cost the service much: counted, one at a time, and within a total."""

import asyncio
import gzip
import json
import struct
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from managed.conftest import Serve
from managed.importing import Shell
from managed.stand_in.predict import Instance
from managed.support import INFER, Doubler, Service, rows, until
from service.core.errors import DeadlineExceeded, RequestCancelled, TooLarge
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.core.tensors import TensorSpec
from service.core.turns import Turns
from service.ops.settings import Settings
from service.web import front
from service.web.body import Bodies
from service.web.errors import BodiesFull, InvalidValues
from service.web.oip import codec
from service.web.predict_schema import PredictRequest
from service.web.strict_json import check_json

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
LENGTH = "inference-header-content-length"
TEXT_IN = (TensorSpec("x", "BYTES", (-1, 2)),)
TEXT_OUT = (TensorSpec("y", "BYTES", (-1, 2)),)


def separators(body: bytes, key_weight: int = 1) -> int:
    return sum(map(body.count, (b",", b"[", b"{"))) + key_weight * body.count(b":")


def values(body: bytes) -> int:
    """Return how many values a body of the protocol counts for."""
    return separators(body, key_weight=9)


async def test_values_of_tensors_are_counted_before_they_are_parsed(serve: Serve) -> None:
    body = json.dumps(rows(1, 2, 3)).encode()
    async with serve(Doubler(), max_values=values(body)) as service:
        fitting = await service.client.post(INFER, content=body)
        surplus = await service.client.post(INFER, content=json.dumps(rows(1, 2, 3, 4)).encode())
        not_json = await service.client.post(INFER, content=b"[" * 100)
        unknown = await service.client.post(INFER, content=b'{"x":[' + b"{}," * 99 + b"{}]}")
        text = await service.client.post(INFER, content=b'{"id":"' + b"," * 100 + b'"}')
        key = await service.client.post(INFER, content=body[:-1] + b',"x":1}')
        short = await service.client.post(INFER, content=b":" * (values(body) // 3 + 1))
    assert fitting.status_code == 200
    for answer in (surplus, not_json, unknown, text, key, short):
        assert answer.status_code == 413, answer.text
        assert f"{values(body)} values (SERVICE_MAX_VALUES)" in answer.json()["error"]
        assert "binary" in answer.json()["error"]


async def test_values_of_instances_and_own_routes_are_counted(serve: Serve) -> None:
    body = json.dumps({"instances": [{"left": 1, "right": 2}]}).encode()
    limits = {"predict_endpoint": True, "max_predict_values": separators(body)}
    async with serve(Doubler(), **limits) as service:
        fitting = await service.client.post("/predict", content=body, headers=JSON)
        many = b'{"instances":[' + b"{}," * 99 + b"{}]}"
        surplus = await service.client.post("/predict", content=many, headers=JSON)
        own_route = await service.client.post("/own", content=many, headers=JSON)
        text = await service.client.post("/own", content=many, headers={"content-type": "text/csv"})
    assert fitting.status_code == 200
    assert text.status_code == 404
    for answer in (surplus, own_route):
        assert answer.status_code == 413, answer.text
        assert "(SERVICE_MAX_PREDICT_VALUES)" in answer.json()["detail"]
        assert "binary tensors to /v2" in answer.json()["detail"]


async def test_two_content_types_are_refused(serve: Serve) -> None:
    types = [("content-type", "application/json"), ("content-type", "text/plain")]
    async with serve(Doubler(), predict_endpoint=True) as service:
        answers = [
            await service.client.post(path, content=b"{}", headers=headers)
            for path in ("/predict", "/own")
            for headers in (types, types[::-1])
        ]
    assert [answer.status_code for answer in answers] == [400] * 4
    assert "one Content-Type" in answers[0].json()["detail"]


async def test_only_the_json_of_a_binary_body_is_counted(serve: Serve) -> None:
    data = b",,,,::::" * 100
    tensor = {
        "name": "x",
        "shape": [100, 2],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    padded = head[:-1] + b',"x":[' + b"1," * 100 + b"1]}"
    async with serve(Doubler(), max_values=values(head)) as service:
        fitting, surplus = [
            await service.client.post(INFER, content=each + data, headers={LENGTH: str(len(each))})
            for each in (head, padded)
        ]
    assert fitting.status_code == 200
    assert surplus.status_code == 413


async def test_bytes_of_json_have_a_limit_of_their_own(serve: Serve) -> None:
    body = json.dumps({**rows(1), "id": "x" * 5000}).encode()
    entry = {"name": "x", "shape": [700, 2], "datatype": "FP32"}
    sized = {**entry, "parameters": {"binary_data_size": 5600}}
    head = json.dumps({"inputs": [sized]}).encode()
    limits = {"max_json_bytes": len(body) - 1, "predict_endpoint": True}
    packed = {"content-encoding": "gzip"}
    async with serve(Doubler(), **limits) as service:
        ask = service.client
        refused = [
            await ask.post(INFER, content=body),
            await ask.post(INFER, content=pieces(body)),
            await ask.post(INFER, content=gzip.compress(body), headers=packed),
            await ask.post(INFER, content=body + bytes(9), headers={LENGTH: str(len(body))}),
            await ask.post("/predict", content=body, headers=JSON),
            await ask.post("/own", content=body, headers=JSON),
        ]
        binary = await ask.post(INFER, content=head + bytes(5600), headers={LENGTH: str(len(head))})
        other = await ask.post("/own", content=body, headers={"content-type": "text/plain"})
        outside = await ask.post(INFER, content=head, headers={LENGTH: str(10**9)})
    for answer in refused:
        assert answer.status_code == 413, answer.text
        assert f"larger than {len(body) - 1} bytes (SERVICE_MAX_JSON_BYTES)" in answer.text
    assert binary.status_code == 200
    assert other.status_code == 404
    assert outside.status_code == 400


@pytest.mark.parametrize(("count", "on_loop"), [(100, True), (2**17 + 1, False)])
async def test_large_binary_tensors_are_decoded_off_the_event_loop(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, count: int, on_loop: bool
) -> None:
    threads: list[threading.Thread] = []
    decode = codec._from_binary

    def from_binary(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*given)

    monkeypatch.setattr(codec, "_from_binary", from_binary)
    data = bytes(8 * count)
    tensor = {"name": "x", "shape": [count, 2], "datatype": "FP32"}
    sized = {**tensor, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [sized]}).encode()
    limits = {"max_queue_size": 10**6, "max_batch_size": 10**6, "warmup": False}
    async with serve(Doubler(), **limits) as service:
        answer = await service.client.post(
            INFER, content=head + data, headers={LENGTH: str(len(head))}
        )
    assert answer.status_code == 200, answer.text
    assert [thread is threading.main_thread() for thread in threads] == [on_loop]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, ["tensor", "tensor", "loop", "loop"]), (10_001, ["tensor", "loop"] * 2)],
)
async def test_the_event_loop_runs_between_the_tensors_of_a_large_request(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, size: int, expected: list[str]
) -> None:
    steps: list[str] = []
    decode = codec._decode_tensor

    async def decode_tensor(*given: Any) -> Any:
        steps.append("tensor")
        asyncio.get_running_loop().call_soon(steps.append, "loop")
        return await decode(*given)

    monkeypatch.setattr(codec, "_decode_tensor", decode_tensor)
    x = {"name": "x", "shape": [size, 2], "datatype": "FP32", "data": [1] * 2 * size}
    async with serve(Doubler(), max_queue_size=2 * size, max_batch_size=2 * size) as service:
        answer = await service.client.post(INFER, json={"inputs": [x, {**x, "name": "z"}]})
    assert answer.status_code == 400
    assert steps == expected


async def test_elements_of_binary_text_are_counted(serve: Serve) -> None:
    async with serve(Doubler(inputs=TEXT_IN, outputs=TEXT_OUT), max_values=200) as service:
        fitting, surplus = [await ask_text(service, count) for count in (100, 101)]
    assert fitting.status_code == 200, fitting.text
    assert surplus.status_code == 413
    assert "200 elements (SERVICE_MAX_VALUES)" in surplus.json()["error"]


async def ask_text(service: Service, count: int) -> httpx.Response:
    data = (struct.pack("<I", 1) + b"a") * (2 * count)
    tensor = {
        "name": "x",
        "shape": [count, 2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return await service.client.post(INFER, content=head + data, headers={LENGTH: str(len(head))})


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

    def check(body: bytes, max_instances: int | None = None) -> None:
        parsed.append(len(body))
        check_json(body, max_instances)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(front, "check_json", check)
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

    def check(body: bytes, max_instances: int | None = None) -> None:
        steps.append("parse")
        check_json(body, max_instances)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(front, "check_json", check)
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

    def check(body: bytes, max_instances: int | None = None) -> None:
        parsed.append(len(body))
        check_json(body, max_instances)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(front, "check_json", check)
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
        predictor: Predictor[Any, Any] = service.app._predictor
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

    def check(body: bytes, max_instances: int | None = None) -> None:
        parsed.append(len(body))
        check_json(body, max_instances)

    monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
    monkeypatch.setattr(front, "check_json", check)
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


async def test_turns_come_in_order_and_waiting_ends() -> None:
    turns = Turns()
    order: list[int] = []

    async def work(number: int) -> None:
        async with turns.turn(RequestContext(20)):
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    leaving = RequestContext(20)
    first = RequestContext(20)
    async with turns.turn(first):
        async with turns.turn(first):  # it has its turn and keeps it
            pass
        waiting = [asyncio.create_task(work(number)) for number in range(3)]
        gone = asyncio.create_task(turns.turn(leaving).__aenter__())
        with pytest.raises(DeadlineExceeded):
            await turns.turn(RequestContext(0.05)).__aenter__()
        leaving.cancel()
        with pytest.raises(RequestCancelled):
            await gone
        cancelled = asyncio.create_task(work(9))
        await asyncio.sleep(0)
        cancelled.cancel()
        turns.end(leaving)
        assert turns.taken
        assert order == []
        turns.end(first)
        turns.end(first)
        await asyncio.gather(*waiting)
    assert order == [0, 0, 1, 1, 2, 2]
    turns.end(None)
    assert not turns.taken


async def test_bodies_of_all_requests_share_a_total(serve: Serve) -> None:
    body = json.dumps(rows(*[1.5] * 1000)).encode()
    limits = {"max_body_bytes": len(body), "max_total_body_bytes": len(body) + 1000}
    leave = asyncio.Event()
    async with serve(Doubler(), **limits) as service:
        half = asyncio.create_task(send_half(service, body[: len(body) // 2], leave))
        await asyncio.sleep(0.01)
        declared = await service.client.post(INFER, content=body)
        chunked = await service.client.post(INFER, content=pieces(body))
        bomb = gzip.compress(body)
        packed = await service.client.post(
            INFER, content=bomb, headers={"content-encoding": "gzip"}
        )
        small = await service.client.post(INFER, json=rows(1))
        leave.set()
        await half
        after = [await service.client.post(INFER, content=body) for _ in range(3)]
        metrics = (await service.client.get("/metrics")).text
    for answer in (declared, chunked, packed):
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "1"
    assert small.status_code == 200
    assert [answer.status_code for answer in after] == [200] * 3
    assert 'inference_rejected_total{reason="bodies_full"} 3.0' in metrics


@pytest.mark.parametrize(("size", "error"), [(b"6", BodiesFull), (b"11", TooLarge)])
async def test_declared_body_that_does_not_fit_is_not_read(
    size: bytes, error: type[Exception]
) -> None:
    async def receive() -> Any:
        raise AssertionError("it reads")

    cycle: Any = SimpleNamespace(receive=receive, body_bytes=0)
    bodies = Bodies(Settings(max_body_bytes=10, max_total_body_bytes=10))
    bodies._held = 5
    with pytest.raises(error):
        await bodies.read(cycle, {b"content-length": size}, bodies.any)


async def pieces(body: bytes) -> Any:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def send_half(service: Service, body: bytes, leave: asyncio.Event) -> None:
    """Ask as a server does whose client sends a part of a body and closes the connection."""
    messages = [{"type": "http.request", "body": body, "more_body": True}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": INFER,
        "headers": [(b"transfer-encoding", b"chunked")],
    }
    await service.app(scope, receive, send)


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


COUNT = 70_001
"""Rows of a large answer: it is encoded in more than one piece."""


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
async def test_large_answers_come_in_pieces(serve: Serve, encoding: str, binary: bool) -> None:
    x = np.arange(4 * COUNT, dtype=np.float32).reshape(2 * COUNT, 2) + 0.5
    tensor = {
        "name": "x",
        "shape": x.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": x.nbytes},
    }
    wanted = [{"name": "y", "parameters": {"binary_data": binary}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted, "id": "a"}).encode()
    headers = {LENGTH: str(len(head)), "accept-encoding": encoding}
    async with serve(Doubler(), max_queue_size=10**6, max_batch_size=10**6) as service:
        answer = await service.client.post(INFER, content=head + x.tobytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("content-encoding", "identity") == encoding
    body = answer.content
    if binary:
        assert encoding != "identity" or int(answer.headers["content-length"]) == len(body)
        length = int(answer.headers[LENGTH])
        (output,) = json.loads(body[:length])["outputs"]
        assert output["parameters"] == {"binary_data_size": x.nbytes}
        y = np.frombuffer(body[length:], dtype=np.float32)
    else:
        document = json.loads(body)
        assert document["id"] == "a"
        (output,) = document["outputs"]
        y = np.array(output["data"], dtype=np.float32)
    assert output["shape"] == [2 * COUNT, 2]
    assert np.array_equal(y, 2 * x.ravel())


async def test_large_text_that_is_none_is_refused_before_the_answer_begins(serve: Serve) -> None:
    model = Doubler(inputs=TEXT_IN, outputs=TEXT_OUT)
    data = (struct.pack("<I", 1) + b"\xff") * (2 * COUNT)
    tensor = {
        "name": "x",
        "shape": [COUNT, 2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    limits = {"max_queue_size": 10**6, "max_batch_size": 10**6, "warmup": False}
    async with serve(model, **limits) as service:
        answer = await service.client.post(
            INFER, content=head + data, headers={LENGTH: str(len(head))}
        )
    assert answer.status_code == 400
    assert "not text" in answer.json()["error"]


async def test_compressed_bodies_are_unpacked_in_pieces(serve: Serve) -> None:
    body = json.dumps({**rows(1), "x": "y" * 3_000_000}).encode()
    packed = gzip.compress(body[:1000]) + gzip.compress(b"") + gzip.compress(body[1000:])
    headers = {"content-encoding": "gzip"}
    async with serve(Doubler()) as service:
        whole = await service.client.post(INFER, content=packed, headers=headers)
        cut = await service.client.post(INFER, content=packed[:-1], headers=headers)
        members = gzip.compress(b"") * 5000
        many = await service.client.post(INFER, content=members, headers=headers)
    assert whole.status_code == 200, whole.text
    assert (cut.status_code, many.status_code) == (400, 400)
    assert "not complete" in cut.json()["error"]
    assert "members" in many.json()["error"]


async def test_a_long_number_after_others_is_found(serve: Serve) -> None:
    body = b'{"instances": [{"left": 1, "right": ' + b"9" * 400 + b"}]}"
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await service.client.post("/predict", content=body, headers=JSON)
    assert answer.status_code == 422
