"""The micro-batcher: what waits runs together as soon as the worker thread is free.

It counts rows, not requests. Requests share a batch when their tensors agree in names, datatypes
and shape beyond the first axis; a request with more rows than a batch may have is cut into parts.
The worker thread, between two batches, takes no more than the next one, under a lock; everything
else happens on the event loop.
"""

import asyncio
import contextlib
import functools
import math
import threading
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

_LEARNING_RATE: Final = 1 / 8
_SWEEP: Final = 0.005
"""Seconds at least between two sweeps for requests whose deadline has passed."""
_MARGIN: Final = 1.5
"""How much longer than expected the queue may take before an accepted request is late."""


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


class Pace:
    """How fast the model is, learned from the batches that it ran.

    ``batch``: seconds of a batch. ``row``: seconds of a row in the batches of a busy time.
    """

    def __init__(self, batch: float, max_rows: int) -> None:
        self.batch = batch
        self.row = batch / max_rows
        self._max_rows: Final = max_rows

    def learn(self, rows: int, seconds: float, *, busy: bool) -> None:
        """Take a batch into account. ``busy``: others waited, so it had all the rows it could."""
        self.batch += (seconds - self.batch) * _LEARNING_RATE
        # A larger batch would have cost each row less, but no batch less in all.
        highest = seconds / rows
        lowest = highest if busy else seconds / self._max_rows
        self.row += (min(max(self.row, lowest), highest) - self.row) * _LEARNING_RATE


class _Request:
    """One caller's tensors on their way through the queue, in one part or several."""

    __slots__ = ("answers", "arrival", "deadline", "due", "future", "parts")

    def __init__(self, future: "asyncio.Future[Tensors]", due: float, patience: float) -> None:
        self.future = future
        self.due = due
        self.arrival = time.perf_counter()
        self.deadline = self.arrival + patience
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Parts that run together. ``busy``: others were left waiting."""

    parts: Sequence[_Part]
    rows: int
    busy: bool


class Batcher:
    """Queues requests for a model and runs them in batches.

    ``run`` is called in the worker thread with tensors that agree in their number of rows. Where
    ``batchable`` is false every request runs alone, as it came. ``batch_seconds`` of a full batch,
    as far as it is known.
    """

    def __init__(
        self,
        run: Run,
        worker: WorkerThread,
        limits: Limits,
        *,
        batchable: bool,
        batch_seconds: float = 0.0,
    ) -> None:
        self._run: Final = run
        self._worker: Final = worker
        self._limits: Final = limits
        self._batchable: Final = batchable
        self._loop: Final = asyncio.get_running_loop()
        self._groups: Final = OrderedDict[Hashable, OrderedDict[_Part, None]]()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._running_rows = 0
        self._turn = 0.0
        """When the batch that runs was begun, or the one before it ended."""
        self._lock: Final = threading.Lock()
        self._pace: Final = Pace(batch_seconds, limits.max_rows)
        self._planned: asyncio.Handle | None = None
        self._open: Final = dict[_Request, None]()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_due = math.inf
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
            QueueFull: what waits leaves no room for this request, or no time before its deadline.
            TooLarge: the request alone is more than the queue takes.
            DeadlineExceeded: the deadline passed first; what has not begun will not run.
            InferenceFailed: the model raised on this request; its exception is the cause.
            ClientLeft: the client closed the connection.
        """
        rows = len(next(iter(tensors.values()))) if self._batchable else 1
        size = _size(tensors)
        patience = deadline - self._loop.time()
        self._admit(rows, size, patience)
        request = _Request(self._loop.create_future(), deadline, patience)
        parts = self._cut(request, tensors, rows, size)
        with self._lock:
            for part in parts:
                self._enqueue(part)
        self._open[request] = None
        if deadline < self._sweep_due:
            self._plan_sweep(deadline)
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
            del self._open[request]
            request.parts.clear()  # a part holds its request: a cycle, freed late

    def _plan_sweep(self, due: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_due = due
        self._sweep = self._loop.call_at(due, self._fail_late) if due < math.inf else None

    def _fail_late(self) -> None:
        """Fail the requests whose deadline has passed, and plan for the next one.

        One timer does it for all: making one for each request costs more than its place in a batch.
        """
        now = self._loop.time()
        for request in [request for request in self._open if request.due <= now]:
            self._fail(request, DeadlineExceeded)
        next_due = min(
            (request.due for request in self._open if request.due > now), default=math.inf
        )
        self._plan_sweep(max(next_due, now + _SWEEP))

    async def drained(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    def _admit(self, rows: int, size: int, patience: float) -> None:
        limits = self._limits
        if patience <= 0:
            raise DeadlineExceeded
        if rows > limits.queue_rows or size > limits.queue_bytes:
            raise TooLarge(
                f"The request has {rows} rows in {size} bytes, "
                f"the queue takes {limits.queue_rows} rows and {limits.queue_bytes} bytes."
            )
        wait = self._seconds_left() + self._queued_rows * self._pace.row
        if (
            self._queued_rows + rows > limits.queue_rows
            or self._queued_bytes + size > limits.queue_bytes
        ):
            raise QueueFull(retry_after=max(1, math.ceil(wait)))
        if not (self._running_rows or self._queued_rows):
            return
        needed = (wait + max(self._pace.batch, rows * self._pace.row)) * _MARGIN
        if needed > patience:
            raise QueueFull(retry_after=max(1, math.ceil(needed - patience)))

    def _cut(self, request: _Request, tensors: Tensors, rows: int, size: int) -> list[_Part]:
        group = _signature(tensors) if self._batchable else request
        step = self._limits.max_rows
        if rows <= step:
            return [_Part(request, 0, group, tensors, rows, size)]
        parts = []
        for index, start in enumerate(range(0, rows, step)):
            part = {name: array[start : start + step] for name, array in tensors.items()}
            rows_here = min(step, rows - start)
            parts.append(_Part(request, index, group, part, rows_here, _size(part)))
        return parts

    def _enqueue(self, part: _Part) -> None:
        part.request.parts.append(part)
        group = self._groups.get(part.group)
        if group is None:
            group = self._groups[part.group] = OrderedDict()
        group[part] = None
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
        while self._groups:
            with self._lock:
                parts = self._next_parts()
                late = _late(parts)
                batch = None if late else self._take(parts)
            if batch is not None:
                self._turn = time.perf_counter()
                self._worker.begin(self._work, batch)
                return
            for part in late:
                self._fail(part.request, DeadlineExceeded())
        self._idle.set()

    def _next_parts(self) -> list[_Part]:
        """Choose what fits into a batch from the group whose turn it is."""
        room = self._limits.max_rows
        chosen: list[_Part] = []
        for part in next(iter(self._groups.values()), ()):
            if part.rows > room:
                break
            room -= part.rows
            chosen.append(part)
        return chosen

    def _take(self, parts: Sequence[_Part]) -> _Batch:
        key = parts[0].group
        group = self._groups[key]
        for part in parts:
            del group[part]
        if group:
            self._groups.move_to_end(key)
        else:
            del self._groups[key]
        rows = sum([part.rows for part in parts])
        self._queued_rows -= rows
        self._queued_bytes -= sum([part.size for part in parts])
        self._running_rows += rows
        return _Batch(parts, rows, busy=bool(self._groups))

    def _take_full(self) -> _Batch | None:
        """Take the next batch if it would gain nothing by waiting for the event loop."""
        with self._lock:
            parts = self._next_parts()
            rows = sum(part.rows for part in parts)
            full = rows == self._limits.max_rows or (
                rows > 0 and len(parts) < len(self._groups[parts[0].group])
            )
            if full and not _late(parts):
                return self._take(parts)
        return None

    def _work(self, batch: _Batch | None) -> None:
        """Run a batch, in the worker thread, and those that wait by then and are full.

        The event loop, which may be late, is not waited for between them.
        """
        while batch is not None:
            began = time.perf_counter()
            outcomes = self._run_isolated(batch.parts)
            ended = time.perf_counter()
            following = self._take_full()
            turn, self._turn = self._turn, ended
            settle = functools.partial(
                self._settle, batch, outcomes, began, ended - began, ended - turn
            )
            with contextlib.suppress(RuntimeError):  # the loop was closed while the model ran
                self._loop.call_soon_threadsafe(settle)
            batch = following

    def _seconds_left(self) -> float:
        """Expect how long the batch that runs will take, zero if none does."""
        if not self._running_rows:
            return 0.0
        return max(0.0, self._turn + self._pace.batch - time.perf_counter())

    def _settle(
        self, batch: _Batch, outcomes: list[Outcome], began: float, seconds: float, cycle: float
    ) -> None:
        telemetry.BATCH_ROWS.observe(batch.rows)
        telemetry.INFERENCE_DURATION.observe(seconds)
        telemetry.QUEUE_WAIT.observe_all([began - part.request.arrival for part in batch.parts])
        self._pace.learn(batch.rows, cycle, busy=batch.busy)
        with self._lock:
            self._running_rows -= batch.rows
        for part, outcome in zip(batch.parts, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failure = InferenceFailed()
                failure.__cause__ = outcome
                self._fail(part.request, failure)
            else:
                self._answer(part, outcome)
        self._plan_dispatch()

    def _answer(self, part: _Part, outputs: Tensors) -> None:
        request = part.request
        if len(request.parts) > 1:
            request.answers[part.index] = outputs
            if len(request.answers) < len(request.parts):
                return
            outputs = _join([request.answers[each.index] for each in request.parts])
        if not request.future.done():
            request.future.set_result(outputs)

    def _fail(self, request: _Request, error: ServiceError | type[ServiceError]) -> None:
        if not request.future.done():
            request.future.set_exception(error)
        self._withdraw(request)

    def _withdraw(self, request: _Request) -> None:
        """Take what still waits of a request out of the queue."""
        with self._lock:
            for part in request.parts:
                if part in self._groups.get(part.group, ()):
                    self._dequeue(part)

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


def _late(parts: Sequence[_Part]) -> list[_Part]:
    """Find what expired without the event loop noticing, which is late itself."""
    now = time.perf_counter()
    return [part for part in parts if part.request.deadline <= now]


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
