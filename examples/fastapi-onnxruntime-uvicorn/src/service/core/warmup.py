"""Warm-up: runs every batch size once, and finds the largest that is worth its time."""

import math
import time
from collections.abc import Callable
from typing import Final

from service.core.run import Run
from service.core.tensors import Tensors

DEFAULT_MAX_BATCH_SIZE: Final = 64
"""Largest batch that is tried if no setting gives one."""
_MIN_GAIN: Final = 1.05
"""A larger batch must serve this many times the rows per second of the one chosen before it."""
_ALWAYS_TRIED: Final = 0.01
"""Batches that take fewer seconds than this do not end the search, whether they pay or not."""


def batch_sizes(largest: int) -> list[int]:
    """Return the powers of two up to ``largest``, and ``largest``."""
    sizes = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    return [*sizes, largest]


def warm_up(
    run: Run,
    batch: Callable[[int], Tensors],
    first_run: Callable[[int], object],
    largest: int,
    budget: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Run and time every batch size up to ``largest``.

    ``batch``: makes a batch of so many rows. ``first_run``: runs it, before it is run for time.
    ``budget``: seconds. Stop after the first batch that exceeds it twice: once may be the machine's
    fault. If it is finite, stop also after two sizes in a row that do not pay.

    Returns:
        Seconds per batch, by its number of rows.
    """
    timings = {}
    for rows in batch_sizes(largest):
        first_run(rows)
        tensors = batch(rows)
        timings[rows] = min(_seconds(run, tensors, clock) for _ in range(2))
        if timings[rows] > budget:
            break
        timings[rows] = min(timings[rows], _seconds(run, tensors, clock))
        if budget < math.inf and _search_is_over(timings, rows, budget):
            break
    return timings


def best_batch_size(timings: dict[int, float], budget: float) -> int:
    """Choose the largest batch size that pays.

    ``timings``: seconds per batch, by its number of rows. ``budget``: seconds that a batch of more
    than one row may take.
    """
    sizes = iter(sorted(timings))
    chosen = next(sizes)
    for rows in sizes:
        gain = (rows / timings[rows]) / (chosen / timings[chosen])
        if timings[rows] <= budget and gain >= _MIN_GAIN:
            chosen = rows
    return chosen


def _search_is_over(timings: dict[int, float], rows: int, budget: float) -> bool:
    """Return whether neither this size nor the one before it paid."""
    chosen = best_batch_size(timings, budget)
    return timings[rows] >= _ALWAYS_TRIED and rows >= 4 * chosen


def _seconds(run: Run, batch: Tensors, clock: Callable[[], float]) -> float:
    start = clock()
    run(batch)
    return max(clock() - start, 1e-9)
