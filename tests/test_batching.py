"""Many random requests through the micro-batcher: every answer is its request's, exactly once."""

import asyncio
import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from service.core.batching import Batcher, Limits
from service.core.errors import DeadlineExceeded, InferenceFailed, QueueFull
from service.core.model_thread import ModelThread
from service.core.request_context import RequestContext
from service.core.tensors import Tensors

EXAMPLES = 1000
REQUESTS = 110
"""In each example: more than 100,000 requests in all."""

MAX_ROWS = 8
QUEUE_ROWS = 120
POISON = -1


@dataclass(frozen=True)
class Plan:
    """What one request does, drawn from one integer so that a failure shrinks well."""

    rows: int
    width: int
    poisoned: bool
    patience: float
    cancelled: bool
    pause: bool

    @property
    def harmless(self) -> bool:
        """Whether it must be answered, if the queue has room for it."""
        return self.patience == 60 and not (self.poisoned or self.cancelled)

    @classmethod
    def draw(cls, seed: int) -> "Plan":
        chance = random.Random(seed)  # noqa: S311
        return cls(
            rows=chance.choice((1, 1, 1, 2, 3, 8, 9, 20)),
            width=chance.choice((1, 2)),
            poisoned=chance.random() < 0.05,
            patience=chance.choice((0.0, 0.001, 60, 60, 60, 60)),
            cancelled=chance.random() < 0.05,
            pause=chance.random() < 0.3,
        )


class Recognizer:
    """A model whose rows are numbers that occur once: it returns each with its sign changed."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def run(self, batch: Tensors) -> Tensors:
        x = batch["x"]
        assert 1 <= len(x) <= MAX_ROWS
        if (x == POISON).any():
            raise ValueError("poisoned")
        self.seen.extend(x[:, 0].tolist())
        return {"y": -x}


@pytest.mark.slow
@given(st.lists(st.integers(0, 2**20), min_size=REQUESTS, max_size=REQUESTS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_belongs_to_its_request(seeds: list[int]) -> None:
    plans = [Plan.draw(seed) for seed in seeds]
    answered = asyncio.run(send_all(plans))
    kind = "some" if answered else "none"
    event(f"{kind} of the requests were answered")
    if all(plan.harmless for plan in plans[: QUEUE_ROWS // 20]):
        assert answered


async def send_all(plans: list[Plan]) -> list[int]:
    model, thread = Recognizer(), ModelThread()
    batcher = Batcher(model.run, thread, Limits(MAX_ROWS, 0, QUEUE_ROWS, 2**20), batchable=True)
    numbers = itertools.count(1)
    answered: list[int] = []
    tasks = []
    for plan in plans:
        task = asyncio.create_task(send(batcher, plan, numbers, answered))
        tasks.append((plan, task))
        if plan.pause:
            await asyncio.sleep(0)
        if plan.cancelled:
            task.cancel()
    for plan, task in tasks:
        await check_outcome(plan, task)
    await asyncio.wait_for(batcher.drained(), timeout=10)
    thread.stop()
    assert batcher.queued_rows == 0
    assert batcher.running_rows == 0
    assert len(model.seen) == len(set(model.seen)), "no row ran twice with success"
    assert set(answered) <= set(model.seen)
    return answered


async def send(
    batcher: Batcher, plan: Plan, numbers: "itertools.count[int]", answered: list[int]
) -> None:
    own = list(itertools.islice(numbers, plan.rows))
    x = np.tile(np.array(own, np.int64)[:, None], plan.width)
    if plan.poisoned:
        x[plan.rows // 2] = POISON
    y = (await batcher.submit({"x": x}, RequestContext(plan.patience)))["y"]
    np.testing.assert_array_equal(y, -x)
    answered.extend(own)


async def check_outcome(plan: Plan, task: "asyncio.Task[None]") -> None:
    try:
        await task
    except asyncio.CancelledError:
        assert plan.cancelled
    except InferenceFailed:
        assert plan.poisoned
    except DeadlineExceeded:
        assert plan.patience < 60
    except QueueFull:
        pass
    else:
        assert not plan.poisoned
