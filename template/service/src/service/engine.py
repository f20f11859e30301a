"""The life of a model: load, verify, warm up, ready, drain."""

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from service import cpu, process, telemetry
from service import manifest as manifests
from service.batching import Batcher, Limits, Run
from service.config import Settings
from service.errors import NotReady
from service.manifest import ArtifactError, Manifest
from service.runtime import RUNTIME, load
from service.tensors import Tensors, TensorSpec, batchable, check_inputs
from service.worker import WorkerThread

log = logging.getLogger("service.engine")

_MOST_ROWS: Final = 64
"""Rows of a batch at most, if its size is left to warm-up."""
_WORTHWHILE: Final = 1.05
"""A larger batch must serve this many times the rows a second of the one before it."""
_YOUNG_OBJECTS: Final = 10_000
"""How many there may be before garbage is looked for. Python's 700 are held by a few requests."""
_TRIED_ANYWAY: Final = 0.01
"""Seconds of a batch, below which larger ones are tried whether this one pays or not."""


class Model(Protocol):
    """What a runtime loads: called from one thread, tensors by the manifest's names."""

    def run(self, batch: Tensors) -> Tensors: ...


class Load(Protocol):
    """How a runtime loads an artifact that was verified."""

    def __call__(
        self, artifact: Path, manifest: Manifest, *, threads: int, device: str
    ) -> Model: ...


class Engine:
    """One model in one process.

    ``load`` and ``runtime_name`` are those of `service.runtime`, unless a test brings its own.
    """

    def __init__(
        self,
        settings: Settings,
        load: Load = load,
        runtime_name: str = RUNTIME,
    ) -> None:
        self._settings: Final = settings
        self._load: Final = load
        self._runtime_name: Final = runtime_name
        self._worker: Final = WorkerThread()
        self._manifest: Manifest | None = None
        self._batcher: Batcher | None = None
        self._can_batch = False
        self._closing = False
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.max_rows = 1

    @property
    def ready(self) -> bool:
        """Whether predictions can be had, from every worker, and traffic should come."""
        return (
            self._batcher is not None
            and not self._closing
            and not process.draining()
            and process.all_ready(self._settings.workers)
        )

    @property
    def has_manifest(self) -> bool:
        """Whether it is known by now which model this is."""
        return self._manifest is not None

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself.

        Raises:
            NotReady: it was not read yet.
        """
        if self._manifest is None:
            raise NotReady
        return self._manifest

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._batcher.queued_rows if self._batcher else 0

    @property
    def pending_rows(self) -> int:
        """Rows that wait or run."""
        batcher = self._batcher
        return batcher.queued_rows + batcher.running_rows if batcher else 0

    async def start(self, check: Callable[[tuple[TensorSpec, ...]], None] | None = None) -> None:
        """Load the model, check it and warm it up; afterwards the engine is ready.

        ``check`` gets the model's inputs and raises where somebody cannot work with them.

        Raises:
            ArtifactError: the artifact cannot be used.
        """
        settings = self._settings
        threads = settings.threads or cpu.threads_per_worker(settings.workers)
        began = time.perf_counter()
        run = await self._worker.call(self._load_verified, threads)
        if check is not None:
            check(self.inputs)
        self._can_batch = batchable([*self.inputs, *self.outputs])
        largest = (settings.batch_max_rows or _MOST_ROWS) if self._can_batch else 1
        batch_seconds = 0.0
        if settings.warm_up:
            budget = math.inf if settings.batch_max_rows else settings.batch_latency_budget
            timings = await self._worker.call(
                warm_up, run, self.inputs, self.outputs, largest, budget
            )
            if not settings.batch_max_rows:
                largest = largest_worthwhile(timings, budget)
            batch_seconds = timings[largest]
        self.max_rows = largest
        limits = Limits(
            largest, settings.batch_delay, settings.queue_max_rows, settings.queue_max_bytes
        )
        self._batcher = Batcher(
            run,
            self._worker,
            limits,
            batchable=self._can_batch,
            batch_seconds=batch_seconds,
        )
        manifest = self.manifest
        telemetry.record_model(manifest.name, manifest.version, manifest.runtime, largest)
        gc.freeze()  # what is there now stays: no collection needs to look at it again
        gc.set_threshold(_YOUNG_OBJECTS)
        process.report_ready()
        log.info(
            "model %s %s is ready after %.2f s: %s, %d of %g CPUs, batches of up to %d rows",
            manifest.name,
            manifest.version,
            time.perf_counter() - began,
            manifest.runtime,
            threads,
            cpu.available_cpus(),
            largest,
        )

    async def infer(self, inputs: Tensors, within: float | None = None) -> Tensors:
        """Run the model on a request's tensors and return its outputs, row for row.

        ``within``: seconds from now; it can shorten the deadline of the request, not lengthen it.

        Raises:
            ServiceError: what `Batcher.submit` and `check_inputs` raise, and NotReady.
        """
        if self._batcher is None:
            raise NotReady
        check_inputs(self.inputs, inputs)
        now = asyncio.get_running_loop().time()
        deadline = min(telemetry.current().deadline, now + self._settings.deadline)
        if within is not None:
            deadline = min(deadline, now + within)
        if self._can_batch and 0 in map(len, inputs.values()):
            return {spec.name: spec.zeros(0) for spec in self.outputs}
        return await self._batcher.submit(inputs, deadline)

    async def close(self) -> None:
        """Say not ready, let what was accepted finish, and end the worker thread."""
        self._closing = True
        telemetry.READY.set(0)
        if self._batcher is not None:
            await self._batcher.drained()
        self._worker.stop()

    def _load_verified(self, threads: int) -> Run:
        folder = self._settings.model_dir
        manifest = manifests.read(folder)
        artifact = manifests.verify(manifest, folder, self._runtime_name)
        self.inputs, self.outputs = manifest.input_specs(), manifest.output_specs()
        self._manifest = manifest
        model = self._load(artifact, manifest, threads=threads, device=self._settings.device)
        return model.run


def warm_up(
    run: Run,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    largest: int,
    budget: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Run every batch size, powers of two up to the largest, and time it.

    ``budget``: seconds; what is larger than the first batch to take longer is left out. Where it
    is finite, the search also ends after two sizes in a row that do not pay.

    Returns:
        Seconds of a batch by its rows.

    Raises:
        ArtifactError: the model raises on zeros, or returns other tensors than its manifest says.
    """
    timings = {}
    for rows in _bucket_sizes(largest):
        batch = {spec.name: spec.zeros(rows) for spec in inputs}
        try:
            _check_outputs(outputs, run(batch))
            timings[rows] = _seconds(run, batch, clock)
            if timings[rows] > budget:
                break
            timings[rows] = min(timings[rows], *(_seconds(run, batch, clock) for _ in range(2)))
            if budget < math.inf and _cannot_pay(timings, rows, budget):
                break
        except ArtifactError:
            raise
        except Exception as error:
            raise ArtifactError(
                f"the model failed on a batch of {rows} rows of zeros: {error}"
            ) from error
    return timings


def largest_worthwhile(timings: dict[int, float], budget: float) -> int:
    """Choose the largest batch that still pays.

    ``timings``: seconds of a batch by its rows. ``budget``: seconds that a batch may take, if it
    has more than one row. Each size must serve clearly more rows a second than the one chosen
    before it.
    """
    sizes = iter(sorted(timings))
    chosen = next(sizes)
    for rows in sizes:
        gain = (rows / timings[rows]) / (chosen / timings[chosen])
        if timings[rows] <= budget and gain >= _WORTHWHILE:
            chosen = rows
    return chosen


def _cannot_pay(timings: dict[int, float], rows: int, budget: float) -> bool:
    """Tell whether to try no larger batch: this one and the one before it did not pay."""
    chosen = largest_worthwhile(timings, budget)
    return timings[rows] >= _TRIED_ANYWAY and rows >= 4 * chosen


def _bucket_sizes(largest: int) -> list[int]:
    sizes = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    return [*sizes, largest]


def _seconds(run: Run, batch: Tensors, clock: Callable[[], float]) -> float:
    start = clock()
    run(batch)
    return max(clock() - start, 1e-9)


def _check_outputs(specs: tuple[TensorSpec, ...], outputs: Tensors) -> None:
    for spec in specs:
        array = outputs.get(spec.name)
        if array is None:
            raise ArtifactError(f"the model has no output '{spec.name}', the manifest names it")
        if array.dtype != spec.dtype or not spec.accepts(array.shape):
            raise ArtifactError(
                f"the model's output '{spec.name}' is {array.dtype} {list(array.shape)}, "
                f"the manifest says {spec.datatype} {list(spec.shape)}"
            )
