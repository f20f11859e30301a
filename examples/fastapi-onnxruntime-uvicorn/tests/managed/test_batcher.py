"""The batcher alone: deadlines, cancellation, threads and memory."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from managed.support import Doubler, until
from service.core.batching import Batcher, Limits, Pace
from service.core.errors import DeadlineExceeded, QueueFull, RequestCancelled
from service.core.model_thread import ModelThread
from service.core.request_context import RequestContext

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def batching(model: Doubler, batch_seconds: float = 0.0) -> AsyncIterator[Batcher]:
    """Run a batcher that is held on a first request; each request is a batch."""
    limits, thread = Limits(1, 0, 10, 2**20), ModelThread()
    batcher = Batcher(model.run, thread, limits, batchable=True, batch_seconds=batch_seconds)
    model.gate.clear()
    first = asyncio.create_task(submit(batcher, 100))
    await until(lambda: model.batches == [1])
    yield batcher
    model.gate.set()
    assert await first == 200
    thread.stop()


async def submit(batcher: Batcher, value: float, patience: float = 60) -> float:
    context = RequestContext(patience)
    outputs = await batcher.submit({"x": np.full((1, 2), value, np.float32)}, context)
    return float(outputs["y"][0, 0])


async def test_tensors_are_let_go_without_the_garbage_collector() -> None:
    async with batching(model := Doubler()) as batcher:
        model.gate.set()
        tensor = np.ones((3, 2), dtype=np.float32)
        gone = weakref.ref(tensor)
        gc.disable()
        try:
            await batcher.submit({"x": tensor}, RequestContext(60))
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


async def test_company_may_come_in_less_than_a_second() -> None:
    """While an idle model waits for more rows, nothing runs that would have to end first."""
    limits, thread = Limits(2, 20, 10, 2**20), ModelThread()
    batcher = Batcher((model := Doubler()).run, thread, limits, batchable=True)
    first = asyncio.create_task(submit(batcher, 1))
    await until(lambda: batcher.queued_rows == 1)
    assert await submit(batcher, 2, patience=0.9) == 4
    assert await first == 2
    assert model.batches == [2]
    thread.stop()


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
    pace = Pace(batch=8, batch_size=8)
    for _ in range(100):
        pace.learn(1, 0.5, busy=False)
    assert pace.batch == pytest.approx(0.5, rel=0.01)
    assert pace.row == pytest.approx(0.5, rel=0.01), "no more than what a batch of one took"
    for _ in range(100):
        pace.learn(8, 0.8, busy=True)
    assert pace.batch == pytest.approx(0.8, rel=0.01)
    assert pace.row == pytest.approx(0.1, rel=0.01)


async def test_cancelled_request_never_runs() -> None:
    tensors = {"x": np.full((1, 2), 7, np.float32)}
    async with batching(model := Doubler()) as batcher:
        context = RequestContext(60)
        task = asyncio.create_task(batcher.submit(tensors, context))
        await until(lambda: batcher.queued_rows == 1)
        context.cancel()
        assert batcher.queued_rows == 0
        with pytest.raises(RequestCancelled):
            await task
        with pytest.raises(RequestCancelled):
            await batcher.submit(tensors, context)
    assert model.batches == [1]


async def test_answered_request_leaves_no_callback() -> None:
    async with batching(model := Doubler()) as batcher:
        model.gate.set()
        context = RequestContext(60)
        await batcher.submit({"x": np.ones((3, 2), np.float32)}, context)
        context.cancel()
        await batcher.drained()
    assert not context._callbacks
