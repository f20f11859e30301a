"""The micro-batcher: whatever waits runs together as soon as the model's thread is free.

It counts rows, not requests. Requests share a batch if their tensors agree in names, datatypes and
shape beyond the first axis, and in the length of their texts if the model pads those. A request
with more rows than a batch may have, or with texts of several lengths, is cut into parts.

Two threads share the queue. The event loop admits, queues and answers requests. The model's thread
runs batches, and between two of them it takes the next full one by itself, so that it need not wait
for an event loop that is late. ``_lock`` guards what both of them change: the groups and the
counters of rows and bytes.
"""

import asyncio
import contextlib
import functools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.core.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidTensors,
    NotReady,
    QueueFull,
    Refused,
    RequestCancelled,
    ServiceError,
    TooLarge,
)
from service.core.model_thread import ModelStopped, ModelThread, stopped_by
from service.core.refusal import locate
from service.core.request_context import RequestContext
from service.core.run import Run, check_rows
from service.core.tensors import Array, Tensors, join, layout, split
from service.core.text_lengths import length_classes

Outcome = Tensors | Exception

_LEARNING_RATE: Final = 1 / 8
_MIN_SWEEP_INTERVAL: Final = 0.005
"""Seconds between two sweeps for requests whose deadline has passed."""
_MARGIN: Final = 1.5
"""How much longer than expected the queue may take before an accepted request is late."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the batcher.

    ``batch_size``: rows of one batch. ``batch_delay``: seconds that an idle model waits for more
    rows. ``queue_size`` and ``queue_bytes``: rows and bytes that may wait.
    """

    batch_size: int
    batch_delay: float
    queue_size: int
    queue_bytes: int


class Pace:
    """How fast the model is, learned from the batches that it ran.

    ``batch``: seconds per batch. ``row``: seconds per row, in the batches of a busy time.
    """

    def __init__(self, batch: float, batch_size: int) -> None:
        self.batch = batch
        self.row = batch / batch_size
        self._batch_size: Final = batch_size

    def learn(self, rows: int, seconds: float, *, busy: bool) -> None:
        """Take a batch into account. ``busy``: others waited, so it had as many rows as fit."""
        self.batch += (seconds - self.batch) * _LEARNING_RATE
        # A larger batch would have cost less per row, but not less in total.
        highest = seconds / rows
        lowest = highest if busy else seconds / self._batch_size
        self.row += (min(max(self.row, lowest), highest) - self.row) * _LEARNING_RATE


class _Request:
    """One caller's tensors on their way through the queue, in one part or several.

    ``order``: the rows as they are queued, by their numbers in the request; None: as they came.
    ``outputs``: those of the parts that ran, by the first row of the part.
    """

    __slots__ = ("deadline", "future", "order", "outputs", "parts", "queued_at")

    def __init__(self, future: "asyncio.Future[Tensors]", deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.queued_at = time.monotonic()
        self.order: Array | None = None
        self.parts: list[_Part] = []
        self.outputs: dict[int, Tensors] = {}


@dataclass(eq=False, slots=True)
class _Part:
    """Rows of one request that run in one batch.

    ``start``: how many rows of the request are queued before them. ``size``: in bytes.
    """

    request: _Request
    start: int
    group: Hashable
    tensors: Tensors
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """Parts that run together. ``busy``: others had to wait."""

    parts: Sequence[_Part]
    rows: int
    busy: bool


class Batcher:
    """Queues requests for a model and runs them in batches.

    ``run`` is called in the model's thread, with tensors of equally many rows. If ``batchable`` is
    false, every request runs alone. ``pads_texts``: whether texts of like length run together only.
    ``batch_seconds``: what a full batch takes, if that is known.
    ``on_failure`` is called, in the event loop, when the model can run no more, and ``on_batch``
    after each batch: with its rows, the seconds in the model, and those that each part waited.
    """

    def __init__(
        self,
        run: Run,
        thread: ModelThread,
        limits: Limits,
        *,
        batchable: bool,
        pads_texts: bool = False,
        batch_seconds: float = 0.0,
        on_failure: Callable[[ModelStopped], object] = lambda failure: None,
        on_batch: Callable[[int, float, Sequence[float]], object] = lambda *_: None,
    ) -> None:
        self._run: Final = run
        self._thread: Final = thread
        self._limits: Final = limits
        self._batchable: Final = batchable
        self._pads_texts: Final = pads_texts
        self._on_failure: Final = on_failure
        self._on_batch: Final = on_batch
        self._loop: Final = asyncio.get_running_loop()
        self._groups: Final = OrderedDict[Hashable, OrderedDict[_Part, None]]()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._running_rows = 0
        self._running: _Batch | None = None
        self._called_at = math.inf
        """When the model was called that has not returned yet."""
        self._stopped: ModelStopped | None = None
        """What the model's thread found. The event loop knows soon, and sets ``failure``."""
        self.failure: ModelStopped | None = None
        """Why the model is not called any more."""
        self._turn = 0.0
        """When the batch that runs began, or the one before it ended."""
        self._lock: Final = threading.Lock()
        self._pace: Final = Pace(batch_seconds, limits.batch_size)
        self._planned: asyncio.Handle | None = None
        self._open: Final = dict[_Request, None]()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf
        self._idle: Final = asyncio.Event()
        self._idle.set()

    @property
    def queued_rows(self) -> int:
        """Rows that wait for the model."""
        return self._queued_rows

    @property
    def running_rows(self) -> int:
        """Rows that the model has not returned yet."""
        return self._running_rows

    @property
    def call_seconds(self) -> float:
        """How long the model has not returned from its call; zero if it was not called."""
        return max(0.0, time.monotonic() - self._called_at)

    async def submit(self, tensors: Tensors, context: RequestContext) -> Tensors:
        """Run the tensors of a request, of at least one row, and return the outputs, row for row.

        ``context``: its deadline is kept, and cancelling it takes the request out of the queue.

        Raises:
            QueueFull: the queue has no room for this request, or no time before its deadline.
            TooLarge: the request alone exceeds what the queue takes.
            DeadlineExceeded: the deadline passed first; what has not begun will not run.
            InvalidTensors, Refused: the model raised it on this request; it names the row of this
                request, if there is one.
            InferenceFailed: the model raised on this request; its exception is the cause.
            NotReady: the model can run no more.
            RequestCancelled: nobody waits for the answer any more.
        """
        if self.failure is not None:
            raise NotReady
        if context.cancelled:
            raise RequestCancelled
        rows = len(next(iter(tensors.values()))) if self._batchable else 1
        size = _size(tensors)
        deadline = context.deadline
        self._admit(rows, size, deadline)
        request = _Request(self._loop.create_future(), deadline)
        parts = self._cut(request, tensors, rows, size)
        with self._lock:
            for part in parts:
                self._enqueue(part)
        self._open[request] = None
        if deadline < self._sweep_at:
            self._plan_sweep(deadline)
        cancel = functools.partial(self._fail, request, RequestCancelled)
        context.add_cancel_callback(cancel)
        self._plan_dispatch()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._withdraw(request)
            raise
        finally:
            context.remove_cancel_callback(cancel)
            del self._open[request]
            request.parts.clear()  # breaks a reference cycle, which would be freed late

    def _plan_sweep(self, at: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_at = at
        delay = max(0.0, at - time.monotonic())
        self._sweep = self._loop.call_later(delay, self._fail_late) if at < math.inf else None

    def _fail_late(self) -> None:
        """Fail the requests whose deadline has passed, and plan the next sweep.

        One timer serves all requests: one for each would cost more than running it in a batch.
        """
        now = time.monotonic()
        for request in [request for request in self._open if request.deadline <= now]:
            self._fail(request, DeadlineExceeded)
        next_deadline = min(
            (request.deadline for request in self._open if request.deadline > now),
            default=math.inf,
        )
        self._plan_sweep(max(next_deadline, now + _MIN_SWEEP_INTERVAL))

    def give_up(self, failure: ModelStopped) -> None:
        """Call the model no more. Whatever runs or waits fails at once."""
        if self.failure is not None:
            return
        self.failure = failure
        running = self._running.parts if self._running else ()
        culprits = {part.request for part in running}
        for request in tuple(self._open):
            self._fail(request, _failure(failure) if request in culprits else NotReady())
        self._idle.set()
        self._on_failure(failure)

    async def drained(self) -> None:
        """Wait until the queue is empty and nothing runs, or the model can run no more."""
        await self._idle.wait()

    def _admit(self, rows: int, size: int, deadline: float) -> None:
        limits = self._limits
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded
        if rows > limits.queue_size or size > limits.queue_bytes:
            raise TooLarge(
                f"The request has {rows} rows in {size} bytes, "
                f"the queue takes {limits.queue_size} rows and {limits.queue_bytes} bytes."
            )
        wait = self._seconds_left() + self._queued_rows * self._pace.row
        if (
            self._queued_rows + rows > limits.queue_size
            or self._queued_bytes + size > limits.queue_bytes
        ):
            raise QueueFull(retry_after=max(1, math.ceil(wait)))
        if not (self._running_rows or self._queued_rows):
            return
        needed = (wait + max(self._pace.batch, rows * self._pace.row)) * _MARGIN
        if needed > remaining:
            raise QueueFull(retry_after=max(1, math.ceil(needed - remaining)))

    def _cut(self, request: _Request, tensors: Tensors, rows: int, size: int) -> list[_Part]:
        group = layout(tensors) if self._batchable else request
        step = self._limits.batch_size
        stretches = [(group, 0, rows)]
        if self._pads_texts and self._batchable:
            tensors, stretches = _by_length(request, group, tensors)
        if rows <= step and len(stretches) == 1:
            return [_Part(request, 0, stretches[0][0], tensors, rows, size)]
        parts = []
        for group, first, end in stretches:
            for start in range(first, end, step):
                stop = min(start + step, end)
                part = {name: array[start:stop] for name, array in tensors.items()}
                parts.append(_Part(request, start, group, part, stop - start, _size(part)))
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
        if self._running_rows or self.failure is not None:
            return
        if not self._groups:
            self._idle.set()
            return
        full = self._queued_rows >= self._limits.batch_size
        delay = 0.0 if full else self._limits.batch_delay
        if self._planned is not None:
            if delay or not self._limits.batch_delay:
                return
            self._planned.cancel()
        # Dispatch later, so that requests of one turn of the event loop share a batch.
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
                self._turn = time.monotonic()
                self._thread.start(self._work, batch)
                return
            for part in late:
                self._fail(part.request, DeadlineExceeded())
        self._idle.set()

    def _next_parts(self) -> list[_Part]:
        """Return what fits into a batch, from the group whose turn it is."""
        room = self._limits.batch_size
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
        """Take the next batch if it is full, so that waiting would not make it larger."""
        with self._lock:
            parts = self._next_parts()
            rows = sum(part.rows for part in parts)
            full = rows == self._limits.batch_size or (
                rows > 0 and len(parts) < len(self._groups[parts[0].group])
            )
            if full and not _late(parts):
                return self._take(parts)
        return None

    def _work(self, batch: _Batch | None) -> None:
        """Run a batch in the model's thread, and then every full one that waits.

        It does not wait for the event loop between them, which may be late.
        """
        while batch is not None:
            self._running = batch
            began = time.monotonic()
            outcomes = self._run_isolated(batch.parts)
            self._running = None
            ended = time.monotonic()
            following = None if self._stopped else self._take_full()
            turn, self._turn = self._turn, ended
            settle = functools.partial(
                self._settle, batch, outcomes, began, ended - began, ended - turn, self._stopped
            )
            with contextlib.suppress(RuntimeError):  # the loop was closed while the model ran
                self._loop.call_soon_threadsafe(settle)
            batch = following

    def _seconds_left(self) -> float:
        """Return how long the running batch is expected to take; zero if none runs."""
        if not self._running_rows:
            return 0.0
        return max(0.0, self._turn + self._pace.batch - time.monotonic())

    def _settle(
        self,
        batch: _Batch,
        outcomes: list[Outcome],
        began: float,
        seconds: float,
        cycle: float,
        stopped: ModelStopped | None,
    ) -> None:
        waits = [began - part.request.queued_at for part in batch.parts]
        self._on_batch(batch.rows, seconds, waits)
        self._pace.learn(batch.rows, cycle, busy=batch.busy)
        with self._lock:
            self._running_rows -= batch.rows
        for part, outcome in zip(batch.parts, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(part.request, _failure(outcome))
            else:
                self._answer(part, outcome)
        if stopped is not None:
            self.give_up(stopped)
        self._plan_dispatch()

    def _answer(self, part: _Part, outputs: Tensors) -> None:
        request = part.request
        if len(request.parts) > 1:
            request.outputs[part.start] = outputs
            if len(request.outputs) < len(request.parts):
                return
            outputs = join([request.outputs[each.start] for each in request.parts])
            if request.order is not None:
                places = request.order.argsort()
                outputs = {name: array[places] for name, array in outputs.items()}
        if not request.future.done():
            request.future.set_result(outputs)

    def _fail(self, request: _Request, error: ServiceError | type[ServiceError]) -> None:
        if not request.future.done():
            request.future.set_exception(error)
        self._withdraw(request)

    def _withdraw(self, request: _Request) -> None:
        """Remove what still waits of a request from the queue."""
        with self._lock:
            for part in request.parts:
                if part in self._groups.get(part.group, ()):
                    self._dequeue(part)

    def _run_isolated(self, parts: Sequence[_Part]) -> list[Outcome]:
        """Run a batch. If the model raises, halve it until only the requests that cause it fail."""
        try:
            return list(self._run_batch(parts))
        except Exception as error:
            if len(parts) == 1:
                return [self._explain(parts[0], error)]
        middle = len(parts) // 2
        return self._run_isolated(parts[:middle]) + self._run_isolated(parts[middle:])

    def _explain(self, part: _Part, error: Exception) -> Exception:
        """Let a refusal say which row of the request is refused."""
        if not (isinstance(error, Refused) and self._batchable):
            return error

        def attempt(rows: slice) -> None:
            self._call({name: array[rows] for name, array in part.tensors.items()})

        try:
            refused = locate(error, part.rows, attempt)
        except Exception as other:
            return other
        if refused.instance is not None:
            row, order = part.start + refused.instance, part.request.order
            refused.instance = row if order is None else int(order[row])
        return refused

    def _run_batch(self, parts: Sequence[_Part]) -> list[Tensors]:
        outputs = self._call(join([part.tensors for part in parts]))
        if not self._batchable:
            return [outputs]
        rows = sum(part.rows for part in parts)
        check_rows(outputs, rows)
        if len(parts) == 1:
            return [outputs]
        return list(split(outputs, [part.rows for part in parts]))

    def _call(self, batch: Tensors) -> Tensors:
        if self._stopped is not None:
            raise self._stopped
        self._called_at = time.monotonic()
        try:
            return self._run(batch)
        except Exception:
            raise
        except BaseException as error:
            self._stopped = stopped_by(error)
            raise self._stopped from error
        finally:
            self._called_at = math.inf


def _by_length(
    request: _Request, group: Hashable, tensors: Tensors
) -> tuple[Tensors, list[tuple[Hashable, int, int]]]:
    """Bring rows whose texts are of like length together.

    Returns:
        The tensors in the order of the request from now on, and for each length the group, the
        first row and the one after the last.
    """
    classes = length_classes(tensors)
    found, counts = np.unique(classes, return_counts=True)
    if len(found) > 1:
        request.order = order = classes.argsort(kind="stable")
        tensors = {name: array[order] for name, array in tensors.items()}
    ends = counts.cumsum()
    bounds = zip(found.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
    return tensors, [((group, each), first, end) for each, first, end in bounds]


def _failure(error: Exception) -> ServiceError:
    """Return how a request fails on which the model raised."""
    if isinstance(error, InvalidTensors | Refused):
        return error
    failure = InferenceFailed()
    failure.__cause__ = error
    return failure


def _size(tensors: Tensors) -> int:
    return sum([array.nbytes for array in tensors.values()])


def _late(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts that expired before the event loop, being late itself, noticed."""
    now = time.monotonic()
    return [part for part in parts if part.request.deadline <= now]
