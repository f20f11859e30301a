"""Metrics in Prometheus' format, of all workers together."""

import asyncio
import contextlib
import functools
import os
import struct
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

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
_PROCESS_METRICS: Final = (
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Durations(Histogram):
    """A histogram that takes many values at once, at a tenth of the cost of one at a time.

    prometheus-client has no public way to do this: `tests/managed/test_metrics.py` fails when a
    release changes what is used here.
    """

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe values, in seconds."""
        self._sum.inc(sum(values))
        buckets = Tally([bisect_left(self._upper_bounds, value) for value in values])
        for bucket, count in buckets.items():
            self._buckets[bucket].inc(count)


_http_requests = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
_http_duration = Durations(
    "http_request_duration_seconds", "Arrival to answer.", ["route"], buckets=_SECONDS
)
_rejected = Counter(
    "inference_rejected_total", "Requests that got no prediction, by reason.", ["reason"]
)
_model_info = Gauge(
    "inference_model_info",
    "The model that is served; always 1.",
    ["name", "version", "runtime"],
    multiprocess_mode="livemax",
)
_answers = defaultdict[tuple[str, str, int], list[float]](list)
"""Seconds of each answered request, by method, route and status, until they are published."""
_http_in_flight = Gauge(
    "http_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum"
)
READY: Final = Gauge(
    "inference_ready_workers", "Workers whose model is ready.", multiprocess_mode="livesum"
)
_queue_rows = Gauge(
    "inference_queue_rows", "Rows that wait for the model.", multiprocess_mode="livesum"
)
QUEUE_WAIT: Final = Durations(
    "inference_queue_wait_seconds", "Arrival in the queue to start of the batch.", buckets=_SECONDS
)
BATCH_ROWS: Final = Histogram("inference_batch_rows", "Rows that ran together.", buckets=_ROWS)
_max_batch_size = Gauge(
    "inference_max_batch_size", "Rows that may run together.", multiprocess_mode="livemax"
)
INFERENCE_DURATION: Final = Histogram(
    "inference_duration_seconds", "Time in the model, a batch.", buckets=_SECONDS
)


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


def record_answer(method: str, route: str, status: int, seconds: float) -> None:
    """Record an answered request, for the next `publish`."""
    _answers[method, route, status].append(seconds)


def publish(in_flight: int, queue_rows: int) -> None:
    """Update the metrics that would cost too much to update with every request."""
    _http_in_flight.set(in_flight)
    _queue_rows.set(queue_rows)
    for (method, route, status), seconds in _answers.items():
        _requests_counter(method, route, status).inc(len(seconds))
        _duration_histogram(route).observe_all(seconds)
    _answers.clear()


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


@functools.cache
def _requests_counter(method: str, route: str, status: int) -> Counter:
    return _http_requests.labels(method, route, status)


@functools.cache
def _duration_histogram(route: str) -> Durations:
    return _http_duration.labels(route)


@functools.cache
def _rejection_counter(reason: str) -> Counter:
    return _rejected.labels(reason)
