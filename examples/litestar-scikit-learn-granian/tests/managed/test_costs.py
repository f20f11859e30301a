"""Requests that would cost the service much: counted, one at a time, and within a total."""

import asyncio
import gzip
import json
import struct
import threading
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from managed.conftest import Serve
from managed.endpoints import ALL_ENDPOINTS, JSON_PATHS
from managed.support import INFER, Doubler, Service, rows
from service.core.errors import DeadlineExceeded, RequestCancelled, TooLarge
from service.core.request_context import RequestContext
from service.core.tensors import TensorSpec
from service.core.turns import Turns
from service.ops.settings import Settings
from service.web.body import Bodies
from service.web.errors import BodiesFull
from service.web.oip import codec

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


async def test_values_outside_the_protocol_are_counted(serve: Serve) -> None:
    limits = {**ALL_ENDPOINTS, "max_predict_values": 99}
    async with serve(Doubler(), **limits) as service:
        many = b'{"instances":[' + b"{}," * 99 + b"{}]}"
        surplus = [
            await service.client.post(path, content=many, headers=JSON)
            for path in (*JSON_PATHS, "/own")
        ]
        text = await service.client.post("/own", content=many, headers={"content-type": "text/csv"})
    assert text.status_code == 404
    for answer in surplus:
        assert answer.status_code == 413, answer.text
        assert "(SERVICE_MAX_PREDICT_VALUES)" in answer.json()["detail"]
        assert "binary tensors to /v2" in answer.json()["detail"]


async def test_two_content_types_are_refused(serve: Serve) -> None:
    types = [("content-type", "application/json"), ("content-type", "text/plain")]
    async with serve(Doubler(), **ALL_ENDPOINTS) as service:
        answers = [
            await service.client.post(path, content=b"{}", headers=headers)
            for path in JSON_PATHS
            for headers in (types, types[::-1])
        ]
    assert {answer.status_code for answer in answers} == {400}
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
    limits = {"max_json_bytes": len(body) - 1, **ALL_ENDPOINTS}
    packed = {"content-encoding": "gzip"}
    async with serve(Doubler(), **limits) as service:
        ask = service.client
        refused = [
            await ask.post(INFER, content=body),
            await ask.post(INFER, content=pieces(body)),
            await ask.post(INFER, content=gzip.compress(body), headers=packed),
            await ask.post(INFER, content=body + bytes(9), headers={LENGTH: str(len(body))}),
            *[await ask.post(path, content=body, headers=JSON) for path in JSON_PATHS],
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


@pytest.mark.parametrize("key", ["a-key-long-enough", "another-key-long-enough"])
async def test_a_long_body_that_is_refused_is_not_waited_for(serve: Serve, key: str) -> None:
    async def receive() -> Any:
        raise AssertionError("it reads")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": INFER,
        "raw_path": INFER.encode(),
        "query_string": b"",
        "headers": [(b"content-length", b"100000000"), (b"x-api-key", key.encode())],
    }
    async with serve(Doubler(), api_keys="a-key-long-enough") as service:
        await service.app(scope, receive, send)
    assert sent[0]["status"] == (413 if key == "a-key-long-enough" else 401)
    assert (b"connection", b"close") in sent[0]["headers"]


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
