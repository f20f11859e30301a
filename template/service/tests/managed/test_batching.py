"""The service when it is busy: batches, a full queue, failing rows, shutdown."""

import asyncio

import pytest

from managed.conftest import Serve
from managed.support import INFER, ONE_ROW_A_BATCH, Doubler, ask, held, outputs, until
from service.core.errors import InvalidTensors
from service.core.tensors import Tensors, TensorSpec

pytestmark = pytest.mark.anyio


async def test_what_waits_runs_together(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, max_batch_size=8, warmup=False) as service:
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
    """Of requests that come in one turn of the event loop, no delay would be needed."""
    model = Doubler()
    async with serve(model, max_batch_delay=0.5, warmup=False) as service:
        first = asyncio.create_task(ask(service, 1))
        await until(lambda: service.engine.queued_rows == 1)
        await asyncio.sleep(0.05)
        assert model.batches == []
        second = await ask(service, 2)
        assert [outputs(await first), outputs(second)] == [[2], [4]]
    assert model.batches == [2]


async def test_large_requests_are_split_and_put_together(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, max_batch_size=4, warmup=False) as service:
        answer = outputs(await ask(service, *range(1, 11)))
    assert answer == [2 * value for value in range(1, 11)]
    assert model.batches == [4, 4, 2]


async def test_other_shapes_run_apart(serve: Serve) -> None:
    model = Doubler((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))
    async with serve(model, warmup=False) as service:
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
    async with serve(model, warmup=False) as service:
        tasks = await held(service, model, 3)
        culprit = asyncio.create_task(ask(service, model.poison))
        await until(lambda: service.engine.pending_rows == 5)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
        answer = await culprit
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert "secret" not in answer.text


async def test_row_whose_values_the_model_refuses_fails_alone_with_the_reason(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Particular(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            if (batch["x"] == 7).any():
                raise InvalidTensors("x: 7 is not lucky")
            return super().run(batch)

    model = Particular()
    async with serve(model, warmup=False) as service:
        tasks = await held(service, model, 3)
        refused = asyncio.create_task(ask(service, 7))
        await until(lambda: service.engine.pending_rows == 5)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
        assert (await refused).status_code == 400
        assert (await refused).json() == {"error": "x: 7 is not lucky"}
    assert "inference failed" not in caplog.text


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
    async with serve(model, max_queue_size=3, **ONE_ROW_A_BATCH) as service:
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
    async with serve(model, max_queue_bytes=16, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 2)
        assert (await ask(service, 9)).status_code == 503
        model.gate.set()
        await asyncio.gather(*tasks)


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
