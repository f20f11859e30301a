"""The life of a model: load, verify, warm up, ready, drain."""

import gc
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from service.core import cpu
from service.core import manifest as manifests
from service.core.batching import Batcher, Limits
from service.core.errors import NotReady
from service.core.manifest import Manifest, ModelInfo
from service.core.model_thread import ModelStopped, ModelThread
from service.core.request_context import RequestContext
from service.core.tensors import Tensors, TensorSpec, batchable, check_inputs
from service.core.warmup import DEFAULT_MAX_BATCH_SIZE, Run, best_batch_size, warm_up
from service.ops import metrics, process
from service.ops.settings import Settings

if TYPE_CHECKING:
    from service.interfaces import Model, Runtime

log = logging.getLogger("service.engine")

_GC_THRESHOLD: Final = 10_000
"""New objects before garbage is collected. A few requests hold Python's default of 700."""


class Engine:
    """One model in one process. It can be started again after it was closed."""

    def __init__(self, settings: Settings, runtime: "Runtime") -> None:
        self._settings: Final = settings
        self._runtime: Final = runtime
        self._thread: ModelThread | None = None
        self._manifest: Manifest | None = None
        self._batcher: Batcher | None = None
        self._can_batch = False
        self._closing = False
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.max_batch_size = 1

    @property
    def ready(self) -> bool:
        """Whether every worker has its model, and new requests are welcome."""
        return (
            self._batcher is not None
            and self._batcher.failure is None
            and not self._closing
            and not process.draining()
            and process.all_ready(self._settings.workers)
        )

    @property
    def has_manifest(self) -> bool:
        """Whether the manifest has been read."""
        return self._manifest is not None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the model.

        Raises:
            NotReady: it has not been read yet.
        """
        if self._manifest is None:
            raise NotReady
        return self._manifest

    @property
    def model(self) -> ModelInfo:
        """Name and version of the model.

        Raises:
            NotReady: the manifest has not been read yet.
        """
        return self.manifest.info

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._batcher.queued_rows if self._batcher else 0

    @property
    def pending_rows(self) -> int:
        """Rows that wait or run."""
        batcher = self._batcher
        return batcher.queued_rows + batcher.running_rows if batcher else 0

    async def start(self, check: Callable[[Sequence[TensorSpec]], None] | None = None) -> None:
        """Load the model, check it and warm it up; then the engine is ready.

        ``check``: gets the model's inputs, and raises if the rest of the service does not fit them.

        Raises:
            ArtifactError: the artifact cannot be used.
        """
        settings = self._settings
        threads = settings.threads or cpu.threads_per_worker(settings.workers)
        began = time.perf_counter()
        self._closing = False
        self._thread = thread = ModelThread()
        run = await thread.call(self._load, threads)
        if check is not None:
            check(self.inputs)
        self._can_batch = batchable([*self.inputs, *self.outputs])
        largest = (settings.max_batch_size or DEFAULT_MAX_BATCH_SIZE) if self._can_batch else 1
        batch_seconds = 0.0
        if settings.warmup:
            budget = math.inf if settings.max_batch_size else settings.max_batch_latency
            timings = await thread.call(warm_up, run, self.inputs, largest, budget)
            if not settings.max_batch_size:
                largest = best_batch_size(timings, budget)
            batch_seconds = timings[largest]
        self.max_batch_size = largest
        limits = Limits(
            largest, settings.max_batch_delay, settings.max_queue_size, settings.max_queue_bytes
        )
        self._batcher = Batcher(
            run,
            thread,
            limits,
            batchable=self._can_batch,
            batch_seconds=batch_seconds,
            on_failure=self._leave,
        )
        model = self.model
        metrics.record_model(model.name, model.version, self._runtime.RUNTIME, largest)
        gc.freeze()  # what exists now stays: later collections need not look at it
        gc.set_threshold(_GC_THRESHOLD)
        process.report_ready()
        log.info(
            "model %s %s is ready after %.2f s: %s, %d of %g CPUs, batches of up to %d rows",
            model.name,
            model.version,
            time.perf_counter() - began,
            self._runtime.RUNTIME,
            threads,
            cpu.available_cpus(),
            largest,
        )

    async def infer(self, inputs: Tensors, context: RequestContext | None = None) -> Tensors:
        """Run the model on tensors and return its outputs, row for row.

        ``context``: that of the request; without one, the service's own timeout applies.

        Raises:
            NotReady: the model is still being loaded.
            InvalidTensors: the tensors are not those that the model takes.
            ServiceError: what `Batcher.submit` raises.
        """
        if self._batcher is None:
            raise NotReady
        check_inputs(self.inputs, inputs)
        if self._can_batch and 0 in map(len, inputs.values()):
            return {spec.name: spec.zeros(0) for spec in self.outputs}
        if context is None:
            context = RequestContext(self._settings.request_timeout)
        return await self._batcher.submit(inputs, context)

    def check(self) -> None:
        """Notice a model that hangs. It is called now and then, from the event loop."""
        batcher, thread = self._batcher, self._thread
        if batcher is None or thread is None or batcher.failure is not None:
            return
        seconds = batcher.call_seconds
        if seconds > self._settings.longest_run:
            rows = batcher.running_rows
            hang = f"the model hangs since {seconds:.0f} s with a batch of {rows} rows"
            log.critical("%s, here:\n%s", hang, thread.where())
            batcher.give_up(ModelStopped(hang))

    def _leave(self, failure: ModelStopped) -> None:
        """End this process, whose model can run no more."""
        metrics.READY.set(0)
        log.critical("%s; this process ends", failure, exc_info=failure.__cause__)
        process.leave(str(failure), self._settings.graceful_timeout)

    async def close(self) -> None:
        """Report not ready, finish what was accepted, and end the model's thread."""
        self._closing = True
        metrics.READY.set(0)
        if self._batcher is not None:
            await self._batcher.drained()
            self._batcher = None
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _load(self, threads: int) -> Run:
        folder = self._settings.model_dir
        manifest = manifests.read(folder)
        artifact = manifests.verify(manifest, folder, self._runtime.RUNTIME)
        self.inputs, self.outputs = manifest.input_specs(), manifest.output_specs()
        self._manifest = manifest
        model = self._runtime.load(
            artifact, manifest, threads=threads, device=self._settings.device
        )
        manifests.check_signature(manifest, model.signature)
        return _checked(model, self.outputs)


def _checked(model: "Model", outputs: Sequence[TensorSpec]) -> Run:
    """Return a model's ``run`` with arrays that it cannot change, and outputs that are checked.

    The arrays may belong to others: a batch of one request has the request's own.
    """

    def run(batch: Tensors) -> Tensors:
        views = {name: array.view() for name, array in batch.items()}
        for view in views.values():
            view.flags.writeable = False
        results = model.run(views)
        manifests.check_outputs(outputs, results)
        return results

    return run
