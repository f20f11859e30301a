"""What the service does when it is busy: batches, limits, deadlines, failures, disconnects."""

import asyncio
import gc
import itertools
import json
import math
import time
import weakref
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Doubler, Serve, Service, until

from service.batching import Batcher, Limits, Pace
from service.engine import largest_worthwhile, warm_up
from service.errors import DeadlineExceeded, QueueFull
from service.tensors import Tensors, TensorSpec
from service.worker import WorkerThread

pytestmark = pytest.mark.anyio

INFER = "/v2/models/doubler/infer"
ONE_ROW_A_BATCH = {"batch_max_rows": 1}


def rows(*values: float, **changed: Any) -> dict[str, Any]:
    data = [value for value in values for _ in range(2)]
    tensor = {"name": "x", "shape": [len(values), 2], "datatype": "FP32", "data": data}
    return {"inputs": [tensor], **changed}


async def ask(service: Service, *values: float, **changed: Any) -> httpx.Response:
    return await service.client.post(INFER, json=rows(*values, **changed))


async def ask_within(service: Service, seconds: str) -> httpx.Response:
    """Ask as a client does that says by a header how long it waits."""
    headers = {"request-timeout": seconds}
    return await service.client.post(INFER, json=rows(7), headers=headers)


async def held(
    service: Service, model: Doubler, count: int
) -> list["asyncio.Task[httpx.Response]"]:
    """Hold the model on a first request and queue others behind it, with rows 1, 2, 3, …"""
    model.gate.clear()
    model.batches.clear()
    first = asyncio.create_task(ask(service, 100))
    await until(lambda: model.batches == [1])
    waiting = [asyncio.create_task(ask(service, value)) for value in range(1, count + 1)]
    await until(lambda: service.engine.pending_rows == 1 + count)
    return [first, *waiting]


def outputs(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data[::2]


async def test_what_waits_runs_together(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, batch_max_rows=8, warm_up=False) as service:
        tasks = await held(service, model, 5)
        model.gate.set()
        answers = [outputs(await task) for task in tasks]
    assert answers == [[200], [2], [4], [6], [8], [10]]
    assert sum(model.batches) == 6
    assert len(model.batches) < 6


async def test_idle_service_does_not_wait_for_company(serve: Serve) -> None:
    model = Doubler()
    async with serve(model) as service:
        assert outputs(await ask(service, 1)) == [2]
        assert outputs(await ask(service, 2)) == [4]
    assert model.batches == [1, 1]


async def test_delay_gathers_company(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, batch_delay=0.2, warm_up=False) as service:
        answers = await asyncio.gather(ask(service, 1), ask(service, 2))
    assert [outputs(answer) for answer in answers] == [[2], [4]]
    assert model.batches == [2]


async def test_large_requests_are_split_and_put_together(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, batch_max_rows=4, warm_up=False) as service:
        answer = outputs(await ask(service, *range(1, 11)))
    assert answer == [2 * value for value in range(1, 11)]
    assert model.batches == [4, 4, 2]


async def test_other_shapes_run_apart(serve: Serve) -> None:
    model = Doubler((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))
    async with serve(model, warm_up=False) as service:
        tasks = await held(service, model, 2)
        narrow = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [5]}
        other = asyncio.create_task(service.client.post(INFER, json={"inputs": [narrow]}))
        await until(lambda: service.engine.pending_rows == 4)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4]]
        assert (await other).json()["outputs"][0]["data"] == [10]
    assert sorted(model.batches) == [1, 1, 2]


async def test_model_without_batch_axis_gets_requests_as_they_are(serve: Serve) -> None:
    model = Doubler((TensorSpec("x", "FP32", (3, 2)),), (TensorSpec("y", "FP32", (3, 2)),))
    async with serve(model) as service:
        answers = await asyncio.gather(ask(service, 1, 2, 3), ask(service, 4, 5, 6))
        wrong = await ask(service, 1)
    assert [outputs(answer) for answer in answers] == [[2, 4, 6], [8, 10, 12]]
    assert wrong.status_code == 400
    assert model.batches == [3, 3]


async def test_failing_row_fails_alone(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, warm_up=False) as service:
        tasks = await held(service, model, 3)
        culprit = asyncio.create_task(ask(service, model.poison))
        await until(lambda: service.engine.pending_rows == 5)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
        answer = await culprit
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert "secret" not in answer.text


async def test_health_answers_while_the_model_runs(serve: Serve) -> None:
    model = Doubler()
    async with serve(model) as service:
        tasks = await held(service, model, 20)
        assert (await service.client.get("/v2/health/live")).json() == {"live": True}
        assert (await service.client.get("/v2/health/ready")).status_code == 200
        assert not any(task.done() for task in tasks)
        model.gate.set()
        await asyncio.gather(*tasks)


async def test_full_queue_refuses_at_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    model = Doubler()
    async with serve(model, queue_max_rows=3, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 3)
        surplus = await ask(service, 9)
        never = await ask(service, 1, 2, 3, 4)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
    assert surplus.status_code == 503
    assert int(surplus.headers["retry-after"]) >= 1
    assert never.status_code == 413
    assert not [record for record in caplog.records if " 503" in record.getMessage()]


async def test_queue_is_bounded_by_bytes(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, queue_max_bytes=16, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 2)
        assert (await ask(service, 9)).status_code == 503
        model.gate.set()
        await asyncio.gather(*tasks)


async def test_what_expires_in_the_queue_never_runs(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        late = await ask(service, 7, parameters={"timeout": 20_000})
        assert late.status_code == 504
        assert service.engine.pending_rows == 2
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.batches == [1, 1]


async def test_deadline_is_a_setting_that_the_protocol_cannot_lengthen(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, deadline=0.05) as service:
        model.gate.clear()
        answer = await ask(service, 1, parameters={"timeout": 60_000_000})
        assert answer.status_code == 504
        assert service.engine.pending_rows == 1, "the model has not returned yet"
        model.gate.set()
        await until(lambda: service.engine.pending_rows == 0)
        assert outputs(await ask(service, 2)) == [4]


async def test_header_shortens_the_deadline(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        assert (await ask_within(service, "0.02")).status_code == 504
        assert service.engine.pending_rows == 2
        model.gate.set()
        await asyncio.gather(*tasks)
        assert outputs(await ask_within(service, "20")) == [14]
    assert model.batches == [1, 1, 1]


@pytest.mark.parametrize("seconds", ["60", "9" * 400])
async def test_header_cannot_lengthen_the_deadline(serve: Serve, seconds: str) -> None:
    model = Doubler()
    async with serve(model, deadline=0.05) as service:
        model.gate.clear()
        assert (await ask_within(service, seconds)).status_code == 504
        model.gate.set()


@pytest.mark.parametrize("seconds", ["", "0", "0.0", "-1", "nan", "inf", "1e3", "1,5", "soon"])
async def test_header_that_is_no_time_is_refused(serve: Serve, seconds: str) -> None:
    model = Doubler()
    async with serve(model) as service:
        answer = await ask_within(service, seconds)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert "Request-Timeout" in answer.json()["error"]
    assert model.batches == []


@asynccontextmanager
async def batching(model: Doubler, batch_seconds: float = 0.0) -> AsyncIterator[Batcher]:
    """Run a batcher that is held on a first request; each request is a batch."""
    limits, worker = Limits(1, 0, 10, 2**20), WorkerThread()
    batcher = Batcher(model.run, worker, limits, batchable=True, batch_seconds=batch_seconds)
    model.gate.clear()
    first = asyncio.create_task(submit(batcher, 100))
    await until(lambda: model.batches == [1])
    yield batcher
    model.gate.set()
    assert await first == 200
    worker.stop()


async def submit(batcher: Batcher, value: float, patience: float = 60) -> float:
    deadline = asyncio.get_running_loop().time() + patience
    outputs = await batcher.submit({"x": np.full((1, 2), value, np.float32)}, deadline)
    return float(outputs["y"][0, 0])


async def test_tensors_are_let_go_without_the_garbage_collector() -> None:
    async with batching(model := Doubler()) as batcher:
        model.gate.set()
        tensor = np.ones((3, 2), dtype=np.float32)
        gone = weakref.ref(tensor)
        gc.disable()
        try:
            await batcher.submit({"x": tensor}, asyncio.get_running_loop().time() + 60)
            del tensor
            await until(lambda: gone() is None)
        finally:
            gc.enable()


async def test_what_could_not_be_answered_in_time_is_refused_at_once() -> None:
    async with batching(model := Doubler(), batch_seconds=10) as batcher:
        with pytest.raises(QueueFull) as refused:
            await submit(batcher, 1, patience=15)
        assert 1 <= refused.value.retry_after <= 30
        waiting = asyncio.create_task(submit(batcher, 2))
        await until(lambda: batcher.queued_rows == 1)
        model.gate.set()
        assert await waiting == 4
        await batcher.drained()
        assert await submit(batcher, 3, patience=9) == 6, "nothing waits: it may try"


async def test_model_does_not_wait_for_a_late_event_loop() -> None:
    async with batching(model := Doubler()) as batcher:
        tasks = [asyncio.create_task(submit(batcher, value)) for value in (1, 2)]
        await until(lambda: batcher.queued_rows == 2)
        model.gate.set()
        for _ in range(5000):
            if len(model.batches) < 3:
                time.sleep(0.001)  # noqa: ASYNC251 - the event loop is late on purpose
        assert model.batches == [1, 1, 1]
        assert await asyncio.gather(*tasks) == [2, 4]


async def test_what_expires_while_the_event_loop_is_late_never_runs() -> None:
    async with batching(model := Doubler()) as batcher:
        task = asyncio.create_task(submit(batcher, 1, patience=0.05))
        await until(lambda: batcher.queued_rows == 1)
        time.sleep(0.1)  # noqa: ASYNC251
        model.gate.set()
        with pytest.raises(DeadlineExceeded):
            await task
        await batcher.drained()
    assert model.batches == [1]


def test_pace_is_learned_from_batches_of_any_size() -> None:
    pace = Pace(batch=8, max_rows=8)
    for _ in range(100):
        pace.learn(1, 0.5, busy=False)
    assert pace.batch == pytest.approx(0.5, rel=0.01)
    assert pace.row == pytest.approx(0.5, rel=0.01), "no more than what a batch of one took"
    for _ in range(100):
        pace.learn(8, 0.8, busy=True)
    assert pace.batch == pytest.approx(0.8, rel=0.01)
    assert pace.row == pytest.approx(0.1, rel=0.01)


def test_warm_up_ends_at_the_first_batch_over_the_budget() -> None:
    sizes: list[int] = []

    def run(batch: Tensors) -> Tensors:
        sizes.append(len(batch["x"]))
        return {"y": batch["x"]}

    seconds = itertools.count()
    inputs, outputs = (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),)
    timings = warm_up(run, inputs, outputs, 8, 0.5, clock=lambda: next(seconds))
    assert timings == {1: 1}
    assert set(sizes) == {1}


@pytest.mark.parametrize(
    ("row", "budget", "tried"),
    [(0.01, 10, [1, 2, 4]), (0.01, math.inf, [1, 2, 4, 8, 16]), (0.0001, 10, [1, 2, 4, 8, 16])],
    ids=["slow", "size given", "fast"],
)
def test_warm_up_tries_no_larger_batches_where_they_do_not_pay(
    row: float, budget: float, tried: list[int]
) -> None:
    now = 0.0

    def run(batch: Tensors) -> Tensors:
        nonlocal now
        now += row * len(batch["x"])
        return {"y": batch["x"]}

    inputs, outputs = (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),)
    timings = warm_up(run, inputs, outputs, 16, budget, clock=lambda: now)
    assert list(timings) == tried


async def test_client_that_leaves_takes_its_rows_along(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        sent: list[Any] = []
        leave = asyncio.Event()
        asking = asyncio.create_task(raw_request(service, rows(7), leave, sent))
        await until(lambda: service.engine.pending_rows == 3)
        leave.set()
        await until(lambda: service.engine.pending_rows == 2)
        await asking
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2]]
        metrics = (await service.client.get("/metrics")).text
    assert sent == []
    assert model.batches == [1, 1]
    assert 'inference_rejected_total{reason="disconnected"}' in metrics


async def test_cancelled_request_leaves_nothing_behind(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        asking = asyncio.create_task(raw_request(service, rows(7), asyncio.Event(), []))
        await until(lambda: service.engine.pending_rows == 3)
        asking.cancel()
        await until(lambda: service.engine.pending_rows == 2)
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.batches == [1, 1]


async def test_shutdown_waits_for_what_was_accepted(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 3)
        closing = asyncio.create_task(service.engine.close())
        await until(lambda: not service.engine.ready)
        assert (await service.client.get("/v2/health/ready")).status_code == 503
        assert not closing.done()
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
        await closing


@pytest.mark.parametrize(
    ("timings", "budget", "chosen"),
    [
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.7}, 60, 8),
        ({1: 1.0, 2: 1.99, 4: 3.98}, 60, 1),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.7}, 1.5, 4),
        ({1: 1.0, 2: 1.9, 4: 2.0}, 60, 4),
        ({1: 5.0}, 1, 1),
    ],
)
def test_largest_batch_is_the_last_that_pays(
    timings: dict[int, float], budget: float, chosen: int
) -> None:
    assert largest_worthwhile(timings, budget) == chosen


async def raw_request(
    service: Service, document: dict[str, Any], leave: asyncio.Event, sent: list[Any]
) -> None:
    """Ask as a server does whose client closes the connection when ``leave`` is set."""
    messages: list[Awaitable[Any]] = [arrived(json.dumps(document).encode()), left(leave)]

    async def receive() -> Any:
        return await messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": INFER,
        "raw_path": INFER.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    try:
        await service.app(scope, receive, send)
    finally:
        for message in messages:
            if asyncio.iscoroutine(message):
                message.close()


async def arrived(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


async def left(leave: asyncio.Event) -> dict[str, Any]:
    await leave.wait()
    return {"type": "http.disconnect"}
