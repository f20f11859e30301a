"""The micro-batcher: what waits runs together as soon as the worker thread is free.

It counts rows, not requests. Requests share a batch when their tensors agree in names, datatypes
and shape beyond the first axis; a request with more rows than a batch may have is cut into parts.
Everything but the model's run happens on the event loop, so there is nothing to lock.
"""

import asyncio
import functools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service import telemetry
from service.errors import (
    ClientLeft,
    DeadlineExceeded,
    InferenceFailed,
    QueueFull,
    ServiceError,
    TooLarge,
)
from service.tensors import Tensors
from service.worker import WorkerThread

Run = Callable[[Tensors], Tensors]
Outcome = Tensors | Exception


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the batcher.

    ``max_rows`` of one batch; ``delay`` in seconds that an idle worker waits for company;
    ``queue_rows`` and ``queue_bytes`` that may wait.
    """

    max_rows: int
    delay: float
    queue_rows: int
    queue_bytes: int


class _Request:
    """One caller's tensors on their way through the queue, in one part or several."""

    __slots__ = ("answers", "arrival", "future", "parts")

    def __init__(self, future: "asyncio.Future[Tensors]") -> None:
        self.future = future
        self.arrival = time.perf_counter()
        self.parts: list[_Part] = []
        self.answers: dict[int, Tensors] = {}


@dataclass(eq=False, slots=True)
class _Part:
    """Rows of one request that run in one batch. ``size`` in bytes."""

    request: _Request
    index: int
    group: Hashable
    tensors: Tensors
    rows: int
    size: int


class Batcher:
    """Queues requests for a model and runs them in batches.

    ``run`` is called in the worker thread with tensors that agree in their number of rows. Where
    ``batchable`` is false every request runs alone, as it came.
    """

    def __init__(self, run: Run, worker: WorkerThread, limits: Limits, *, batchable: bool) -> None:
        self._run: Final = run
        self._worker: Final = worker
        self._limits: Final = limits
        self._batchable: Final = batchable
        self._loop: Final = asyncio.get_running_loop()
        self._groups: Final = OrderedDict[Hashable, OrderedDict[_Part, None]]()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._running_rows = 0
        self._seconds_per_row = 0.0
        self._planned: asyncio.Handle | None = None
        self._idle: Final = asyncio.Event()
        self._idle.set()

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the worker."""
        return self._queued_rows

    @property
    def running_rows(self) -> int:
        """Rows that the model has not returned yet."""
        return self._running_rows

    async def submit(self, tensors: Tensors, deadline: float) -> Tensors:
        """Run a request's tensors, at least one row, and return the model's, row for row.

        ``deadline``: in seconds of the event loop's clock.

        Raises:
            QueueFull: the rows or bytes that wait leave no room for this request.
            TooLarge: the request alone is more than the queue takes.
            DeadlineExceeded: the deadline passed first; what has not begun will not run.
            InferenceFailed: the model raised on this request; its exception is the cause.
            ClientLeft: the client closed the connection.
        """
        rows = len(next(iter(tensors.values()))) if self._batchable else 1
        size = _size(tensors)
        self._admit(rows, size)
        request = _Request(self._loop.create_future())
        for part in self._cut(request, tensors, rows, size):
            self._enqueue(part)
        expiry = self._loop.call_at(deadline, self._fail, request, DeadlineExceeded)
        client_left = functools.partial(self._fail, request, ClientLeft)
        abandon = telemetry.current().abandon
        abandon.add(client_left)
        self._plan_dispatch()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._withdraw(request)
            raise
        finally:
            abandon.discard(client_left)
            expiry.cancel()

    async def drained(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    def _admit(self, rows: int, size: int) -> None:
        limits = self._limits
        if rows > limits.queue_rows or size > limits.queue_bytes:
            raise TooLarge(
                f"The request has {rows} rows in {size} bytes, "
                f"the queue takes {limits.queue_rows} rows and {limits.queue_bytes} bytes."
            )
        if (
            self._queued_rows + rows > limits.queue_rows
            or self._queued_bytes + size > limits.queue_bytes
        ):
            waiting = self._queued_rows + self._running_rows
            raise QueueFull(retry_after=max(1, math.ceil(waiting * self._seconds_per_row)))

    def _cut(self, request: _Request, tensors: Tensors, rows: int, size: int) -> Iterator[_Part]:
        group = _signature(tensors) if self._batchable else request
        step = self._limits.max_rows
        if rows <= step:
            yield _Part(request, 0, group, tensors, rows, size)
            return
        for index, start in enumerate(range(0, rows, step)):
            part = {name: array[start : start + step] for name, array in tensors.items()}
            yield _Part(request, index, group, part, min(step, rows - start), _size(part))

    def _enqueue(self, part: _Part) -> None:
        part.request.parts.append(part)
        self._groups.setdefault(part.group, OrderedDict())[part] = None
        self._queued_rows += part.rows
        self._queued_bytes += part.size
        self._idle.clear()

    def _dequeue(self, part: _Part) -> None:
        group = self._groups[part.group]
        del group[part]
        if not group:
            del self._groups[part.group]
        self._queued_rows -= part.rows
        self._queued_bytes -= part.size

    def _plan_dispatch(self) -> None:
        if self._running_rows:
            return
        if not self._groups:
            self._idle.set()
            return
        full = self._queued_rows >= self._limits.max_rows
        delay = 0.0 if full else self._limits.delay
        if self._planned is not None:
            if delay or not self._limits.delay:
                return
            self._planned.cancel()
        # Not called at once, so that requests of one turn of the event loop share a batch.
        self._planned = (
            self._loop.call_later(delay, self._dispatch)
            if delay
            else self._loop.call_soon(self._dispatch)
        )

    def _dispatch(self) -> None:
        self._planned = None
        parts = self._take()
        if not parts:
            self._idle.set()
            return
        now = time.perf_counter()
        for part in parts:
            telemetry.QUEUE_WAIT.observe(now - part.request.arrival)
        self._running_rows = sum(part.rows for part in parts)
        telemetry.BATCH_ROWS.observe(self._running_rows)
        future = self._worker.call(self._run_timed, parts)
        future.add_done_callback(functools.partial(self._settle, parts))

    def _take(self) -> list[_Part]:
        """Take the next batch from the group whose turn it is."""
        if not self._groups:
            return []
        key, group = next(iter(self._groups.items()))
        room = self._limits.max_rows
        taken: list[_Part] = []
        for part in group:
            if part.rows > room:
                break
            room -= part.rows
            taken.append(part)
        for part in taken:
            self._dequeue(part)
        if key in self._groups:
            self._groups.move_to_end(key)
        return taken

    def _settle(
        self, parts: Sequence[_Part], future: "asyncio.Future[tuple[list[Outcome], float]]"
    ) -> None:
        outcomes, seconds = future.result()
        telemetry.INFERENCE_DURATION.observe(seconds)
        seconds_per_row = seconds / self._running_rows
        self._seconds_per_row += (seconds_per_row - self._seconds_per_row) / 8
        self._running_rows = 0
        for part, outcome in zip(parts, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failure = InferenceFailed()
                failure.__cause__ = outcome
                self._fail(part.request, failure)
            else:
                self._answer(part, outcome)
        self._plan_dispatch()

    def _answer(self, part: _Part, outputs: Tensors) -> None:
        request = part.request
        request.answers[part.index] = outputs
        if len(request.answers) == len(request.parts) and not request.future.done():
            request.future.set_result(_join([request.answers[p.index] for p in request.parts]))

    def _fail(self, request: _Request, error: ServiceError | type[ServiceError]) -> None:
        if not request.future.done():
            request.future.set_exception(error)
            self._withdraw(request)

    def _withdraw(self, request: _Request) -> None:
        """Take what still waits of a request out of the queue."""
        for part in request.parts:
            if part in self._groups.get(part.group, ()):
                self._dequeue(part)

    def _run_timed(self, parts: Sequence[_Part]) -> tuple[list[Outcome], float]:
        start = time.perf_counter()
        outcomes = self._run_isolated(parts)
        return outcomes, time.perf_counter() - start

    def _run_isolated(self, parts: Sequence[_Part]) -> list[Outcome]:
        """Run a batch; where the model raises, halve it until only the culprit fails."""
        try:
            return list(self._run_batch(parts))
        except Exception as error:
            if len(parts) == 1:
                return [error]
        middle = len(parts) // 2
        return self._run_isolated(parts[:middle]) + self._run_isolated(parts[middle:])

    def _run_batch(self, parts: Sequence[_Part]) -> list[Tensors]:
        outputs = self._run(_join([part.tensors for part in parts]))
        if not self._batchable:
            return [outputs]
        rows = sum(part.rows for part in parts)
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                raise ValueError(f"the model's output {name} does not have {rows} rows")
        if len(parts) == 1:
            return [outputs]
        return list(_split(outputs, [part.rows for part in parts]))


def _size(tensors: Tensors) -> int:
    return sum([array.nbytes for array in tensors.values()])


def _signature(tensors: Tensors) -> Hashable:
    return tuple([(name, array.dtype, array.shape[1:]) for name, array in sorted(tensors.items())])


def _join(tensors: Sequence[Tensors]) -> Tensors:
    if len(tensors) == 1:
        return tensors[0]
    return {name: np.concatenate([each[name] for each in tensors]) for name in tensors[0]}


def _split(tensors: Tensors, rows: Sequence[int]) -> Iterator[Tensors]:
    start = 0
    for count in rows:
        yield {name: array[start : start + count] for name, array in tensors.items()}
        start += count
