"""Warm-up: which batches are tried, and which size is chosen."""

import itertools
import math

import numpy as np
import pytest

from service.core.tensors import Tensors
from service.core.warmup import best_batch_size, warm_up


def rows(count: int) -> Tensors:
    return {"x": np.zeros(count, np.float32)}


def test_warm_up_ends_at_the_first_batch_over_the_budget() -> None:
    sizes: list[int] = []

    def run(batch: Tensors) -> Tensors:
        sizes.append(len(batch["x"]))
        return {"y": batch["x"]}

    seconds = itertools.count()
    timings = warm_up(run, rows, lambda _: None, 8, 0.5, clock=lambda: next(seconds))
    assert timings == {1: 1}
    assert sizes == [1, 1]


def test_one_late_run_of_each_size_does_not_end_the_search() -> None:
    now = 0.0
    seen: set[int] = set()

    def run(batch: Tensors) -> Tensors:
        nonlocal now
        now += 0.001 if len(batch["x"]) in seen else 5
        seen.add(len(batch["x"]))
        return {"y": batch["x"]}

    timings = warm_up(run, rows, lambda _: None, 8, 0.5, clock=lambda: now)
    assert timings == {size: pytest.approx(0.001) for size in (1, 2, 4, 8)}
    assert best_batch_size(timings, 0.5) == 8


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

    first: list[int] = []
    timings = warm_up(run, rows, first.append, 16, budget, clock=lambda: now)
    assert list(timings) == first == tried


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
    assert best_batch_size(timings, budget) == chosen
