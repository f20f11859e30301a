"""The life of a model: load, verify, warm up, ready, drain."""

import functools
import gc
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from service.core import cpu, examples, trial
from service.core import manifest as manifests
from service.core.batching import Batcher, Limits
from service.core.errors import NotReady
from service.core.examples import Examples
from service.core.load import load
from service.core.manifest import DEFAULT_BATCH_TOLERANCE, Manifest, ModelInfo
from service.core.model_thread import ModelStopped, ModelThread
from service.core.padding import padded
from service.core.request_context import RequestContext
from service.core.run import Run, checked
from service.core.tensors import Signature, Tensors, TensorSpec, check_inputs, check_rows
from service.core.tracing import BatchTraces, Tracer
from service.core.trial import Verdict
from service.core.warmup import DEFAULT_MAX_BATCH_SIZE, best_batch_size
from service.ops import device_memory, metrics, process
from service.ops.settings import Settings

if TYPE_CHECKING:
    from service.interfaces import Runtime

ExamplesFor = Callable[[Sequence[TensorSpec]], Awaitable[Examples | None]]

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
        self._closing = False
        self._leaving = False
        self._signature = Signature((), ())
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.batched = False
        """Whether requests may share a batch. If not, the model gets one instance at a time."""
        self.max_batch_size = 0
        """Rows that may run together; 0 until the model has been tried out."""

    @property
    def ready(self) -> bool:
        """Whether every worker has its model, and new requests are welcome."""
        return (
            self._batcher is not None
            and self._batcher.failure is None
            and not self._closing
            and not self._leaving
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

    async def start(
        self, examples_for: ExamplesFor | None = None, tracer: Tracer | None = None
    ) -> None:
        """Load the model, try it out and warm it up; then the engine is ready.

        ``examples_for``: returns examples for the model's inputs, if it has any. It raises if the
        rest of the service does not fit them. ``tracer``: makes the spans of requests, if they are
        wanted.

        Raises:
            ArtifactError: the artifact cannot be used.
        """
        settings = self._settings
        threads = settings.threads or cpu.threads_per_worker(settings.workers)
        began = time.perf_counter()
        self._closing = False
        self._thread = thread = ModelThread()
        run = await thread.call(self._load, threads)
        own = await examples_for(self.inputs) if examples_for else None
        verdict = await thread.call(self._try_out, run, [own] if own else [])
        self.batched = verdict.batched
        largest = self._largest_batch(verdict)
        self.max_batch_size = largest
        model = self.model
        limits = Limits(
            largest, settings.max_batch_delay, settings.max_queue_size, settings.max_queue_bytes
        )
        traces = BatchTraces(tracer, self.model) if tracer is not None else None
        if traces is not None:
            run = traces.around(run)
        padding = self.batched and self.manifest.pad_batches
        self._batcher = Batcher(
            padded(run, largest) if padding else run,
            thread,
            limits,
            batchable=self.batched,
            pads_texts=self._signature.pads_texts,
            batch_seconds=verdict.timings.get(largest, 0.0),
            on_failure=lambda failure: self.leave(str(failure), failure.__cause__),
            traces=traces,
            on_batch=functools.partial(metrics.record_batch, model.name, model.version),
        )
        device_memory.watch(settings.device)
        metrics.record_model(model.name, model.version, self._runtime.RUNTIME, largest)
        gc.freeze()  # what exists now stays: later collections need not look at it
        gc.set_threshold(_GC_THRESHOLD)
        process.report_ready()
        log.info(
            "model %s %s is ready after %.2f s: %s, %d of %g CPUs, %s",
            model.name,
            model.version,
            time.perf_counter() - began,
            self._runtime.RUNTIME,
            threads,
            cpu.available_cpus(),
            f"{'padded ' if padding else ''}batches of up to {largest} rows"
            if self.batched
            else "one request at a time",
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
        if self.batched and not check_rows(inputs):
            return {spec.name: spec.zeros(0) for spec in self.outputs}
        if context is None:
            context = self.own_context()
        return await self._batcher.submit(inputs, context)

    def own_context(self) -> RequestContext:
        """Return a context for work that no request asks for, with the service's own timeout."""
        return RequestContext(self._settings.request_timeout)

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

    def leave(self, reason: str, cause: BaseException | None) -> None:
        """Report not ready, and end this process, which can serve no more."""
        self._leaving = True
        metrics.READY.set(0)
        log.critical("%s; this process ends", reason, exc_info=cause)
        process.leave(reason, self._settings.graceful_timeout)

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
        with manifests.unchanged(manifest, folder):
            artifact = manifests.verify(manifest, folder, self._runtime.RUNTIME)
            self.inputs, self.outputs = manifest.input_specs(), manifest.output_specs()
            self._manifest = manifest
            model = load(
                self._runtime, artifact, manifest, threads=threads, device=self._settings.device
            )
        self._signature = model.signature
        return checked(model, self.outputs)

    def _try_out(self, run: Run, own: Sequence[Examples]) -> Verdict:
        """Try the model on examples: those beside the manifest, the service's own, made-up ones."""
        settings = self._settings
        manifest = self.manifest
        given = [*examples.read(settings.model_dir, self.inputs), *own]
        verdict = trial.try_out(
            run,
            manifest,
            [
                *given,
                *map(examples.varied, given[-1:]),
                *examples.made_up(self.inputs, self._signature.features),
            ],
            warmup=settings.warmup,
            max_batch_size=settings.max_batch_size or DEFAULT_MAX_BATCH_SIZE,
            budget=math.inf if settings.max_batch_size else settings.max_batch_latency,
        )
        if not verdict.batched:
            level = logging.WARNING if manifest.batch == "auto" else logging.INFO
            log.log(level, "requests run one at a time: %s", verdict.reason)
        elif verdict.reason:
            log.warning("batches are not proven, the manifest insists on them: %s", verdict.reason)
        elif manifest.batch_tolerance > DEFAULT_BATCH_TOLERANCE:
            log.info(
                "answers may differ in a batch by %g of an output's range, says the manifest",
                manifest.batch_tolerance,
            )
        return verdict

    def _largest_batch(self, verdict: Verdict) -> int:
        settings = self._settings
        if not verdict.batched:
            return 1
        if settings.max_batch_size or not verdict.timings:
            return settings.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        return best_batch_size(verdict.timings, settings.max_batch_latency)
