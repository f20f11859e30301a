"""Metrics in Prometheus' format, of all workers together."""

import asyncio
import contextlib
import functools
import json
import os
import platform
import struct
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Final, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.ops import process

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_READ_TRIES: Final = 10
_READ_PAUSE: Final = 0.02
"""Seconds between two attempts to read the metrics of the workers."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BATCH_SIZES: Final = (*map(str, _ROWS), "+Inf")
"""Values of the label `batch_size`: the batch has at most so many rows, and over half of them."""
_BYTES: Final = tuple(256 * 4**power for power in range(10))
"""From 256 bytes to 64 MiB."""
_PROCESS_METRICS: Final = (
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
)

disable_created_metrics()  # type: ignore[no-untyped-call]


class BulkHistogram(Histogram):
    """A histogram that takes many values at once, at a tenth of the cost of one at a time.

    prometheus-client has no public way to do this: `tests/managed/test_metrics.py` fails when a
    release changes what is used here.
    """

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe values."""
        self._sum.inc(sum(values))
        buckets = Tally([bisect_left(self._upper_bounds, value) for value in values])
        for bucket, count in buckets.items():
            self._buckets[bucket].inc(count)


_http_requests = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
_http_duration = BulkHistogram(
    "http_request_duration_seconds",
    "Arrival to answer.",
    ["route", "status_class"],
    buckets=_SECONDS,
)
_request_size = BulkHistogram(
    "http_request_size_bytes",
    "Bytes of the body that arrived, compressed as it was.",
    ["route"],
    buckets=_BYTES,
)
_response_size = BulkHistogram(
    "http_response_size_bytes",
    "Bytes of the body that was sent, compressed as it was.",
    ["route"],
    buckets=_BYTES,
)
_rejected = Counter(
    "inference_rejected_total", "Requests that got no prediction, by reason.", ["reason"]
)
_build_info = Gauge(
    "inference_build_info",
    "What the service is made of; always 1.",
    ["service", "version", "framework", "runtime", "server", "python"],
    multiprocess_mode="livemax",
)
_model_info = Gauge(
    "inference_model_info",
    "The model that is served; always 1.",
    ["name", "version", "runtime"],
    multiprocess_mode="livemax",
)
_answers = defaultdict[tuple[str, str, int], list[tuple[float, int, int]]](list)
"""Seconds, and bytes in and out, of each answered request, by method, route and status, until they
are published."""
_http_in_flight = Gauge(
    "http_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum"
)
READY: Final = Gauge(
    "inference_ready_workers", "Workers whose model is ready.", multiprocess_mode="livesum"
)
_queue_rows = Gauge(
    "inference_queue_rows", "Rows that wait for the model.", multiprocess_mode="livesum"
)
_queue_wait = BulkHistogram(
    "inference_queue_wait_seconds",
    "Arrival in the queue to start of the batch.",
    ["model", "version"],
    buckets=_SECONDS,
)
_batch_rows = BulkHistogram(
    "inference_batch_rows", "Rows that ran together.", ["model", "version"], buckets=_ROWS
)
_max_batch_size = Gauge(
    "inference_max_batch_size", "Rows that may run together.", multiprocess_mode="livemax"
)
_inference_duration = BulkHistogram(
    "inference_duration_seconds",
    "Time in the model, a batch.",
    ["model", "version", "batch_size"],
    buckets=_SECONDS,
)
_batches = defaultdict[tuple[str, str], list[tuple[int, float, Sequence[float]]]](list)
"""Rows, seconds in the model, and those that each part waited, of each batch that ran, by name and
version of the model, until they are published."""


_further: list[Collector] = []
"""Collectors whose metrics are there only if a setting asks for them."""


class _WorkerProcesses(Collector):
    """CPU time, memory and open files of all workers together."""

    def collect(self) -> Iterator[Metric]:
        found: dict[str, list[Metric]] = {}
        for pid in process.workers():
            worker = ProcessCollector(pid=functools.partial(int, pid), registry=None)
            for metric in worker.collect():
                found.setdefault(metric.name, []).append(metric)
        for name in _PROCESS_METRICS:
            if metrics := found.get(name):
                samples = [sample for metric in metrics for sample in metric.samples]
                total = sum(sample.value for sample in samples)
                metrics[0].samples = [samples[0]._replace(value=total)]
                yield metrics[0]


def record_answer(
    method: str, route: str, status: int, seconds: float, received: int, sent: int
) -> None:
    """Record an answered request, for the next `publish`.

    ``status``: zero if no response began. ``received``, ``sent``: bytes of the two bodies.
    """
    _answers[method, route, status].append((seconds, received, sent))


def record_batch(
    name: str, version: str, rows: int, seconds: float, waits: Sequence[float]
) -> None:
    """Record a batch that ran, for the next `publish`.

    ``name``, ``version``: those of the model. ``waits``: the seconds that each part was in the
    queue.
    """
    _batches[name, version].append((rows, seconds, waits))


def publish(in_flight: int, queue_rows: int) -> None:
    """Update the metrics that would cost too much to update with every request."""
    _http_in_flight.set(in_flight)
    _queue_rows.set(queue_rows)
    for (method, route, status), answers in _answers.items():
        seconds, received, sent = zip(*answers, strict=True)
        of_answer = _answer_metrics(method, route, status)
        of_answer.requests.inc(len(answers))
        of_answer.duration.observe_all(seconds)
        of_answer.request_size.observe_all(received)
        of_answer.response_size.observe_all(sent)
    _answers.clear()
    for model, batches in _batches.items():
        _publish_batches(model, batches)
    _batches.clear()


def _publish_batches(
    model: tuple[str, str], batches: Sequence[tuple[int, float, Sequence[float]]]
) -> None:
    by_size = defaultdict[str, list[float]](list)
    for rows, seconds, _ in batches:
        by_size[_BATCH_SIZES[min((rows - 1).bit_length(), len(_ROWS))]].append(seconds)
    for size, durations in by_size.items():
        _inference_duration.labels(*model, size).observe_all(durations)
    _batch_rows.labels(*model).observe_all([rows for rows, _, _ in batches])
    _queue_wait.labels(*model).observe_all([wait for _, _, waits in batches for wait in waits])


def record_build(service: str, version: str) -> None:
    """Publish what the service is made of, by its answers to the template's questions.

    ``service``, ``version``: those of the installed package.
    """
    text = resources.files("service.ops").joinpath("build_info.json").read_text(encoding="utf-8")
    _build_info.labels(
        service=service, version=version, python=platform.python_version(), **json.loads(text)
    ).set(1)


def record_rejection(reason: str) -> None:
    """Count a request that got no prediction."""
    _rejection_counter(reason).inc()


def record_model(name: str, version: str, runtime: str, max_batch_size: int) -> None:
    """Publish which model is ready, and how large its batches may be."""
    _model_info.labels(name, version, runtime).set(1)
    _max_batch_size.set(max_batch_size)
    READY.set(1)


def add(collector: Collector) -> None:
    """Let the page have what a collector finds, once. It is of the machine, not of a worker."""
    if collector not in _further:
        _further.append(collector)
        REGISTRY.register(collector)


async def render() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    if process.METRICS_DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    process.forget_dead_workers()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_WorkerProcesses())
    for collector in _further:
        registry.register(collector)
    for _ in range(_READ_TRIES):
        # The files of a worker that is starting are empty for a moment.
        with contextlib.suppress(struct.error):
            return generate_latest(registry)
        await asyncio.sleep(_READ_PAUSE)
    return generate_latest(registry)


class _AnswerMetrics(NamedTuple):
    """What is counted of an answered request."""

    requests: Counter
    duration: BulkHistogram
    request_size: BulkHistogram
    response_size: BulkHistogram


@functools.cache
def _answer_metrics(method: str, route: str, status: int) -> _AnswerMetrics:
    status_class = f"{status // 100}xx" if status else "none"
    return _AnswerMetrics(
        _http_requests.labels(method, route, status),
        _http_duration.labels(route, status_class),
        _request_size.labels(route),
        _response_size.labels(route),
    )


@functools.cache
def _rejection_counter(reason: str) -> Counter:
    return _rejected.labels(reason)
