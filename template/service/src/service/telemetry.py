"""Metrics, logs and the identity of the request that is being answered."""

import asyncio
import contextlib
import functools
import logging
import math
import os
import random
import re
import struct
import sys
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
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
from pythonjsonlogger.json import JsonFormatter

from service import process
from service.config import Settings
from service.errors import ServiceError

log = logging.getLogger("service")

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_READ_TRIES: Final = 10
_READ_PAUSE: Final = 0.02
"""Seconds between two tries to read the metrics of the workers."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OF_PROCESSES: Final = (
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Durations(Histogram):
    """A histogram that takes many values at once, at a tenth of what one costs alone."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe values, in seconds."""
        self._sum.inc(sum(values))
        buckets = Tally(bisect_left(self._upper_bounds, value) for value in values)
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
"""How many seconds each request took, by method, route and status, until they are published."""
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
BATCH_MAX_ROWS: Final = Gauge(
    "inference_batch_max_rows", "Rows that may run together.", multiprocess_mode="livemax"
)
INFERENCE_DURATION: Final = Histogram(
    "inference_duration_seconds", "Time in the model, a batch.", buckets=_SECONDS
)


class _Workers(Collector):
    """What the system says of one process, of all workers together."""

    def collect(self) -> Iterator[Metric]:
        found: dict[str, list[Metric]] = {}
        for pid in process.workers():
            of_worker = ProcessCollector(pid=functools.partial(int, pid), registry=None)
            for metric in of_worker.collect():
                found.setdefault(metric.name, []).append(metric)
        for name in _OF_PROCESSES:
            if metrics := found.get(name):
                samples = [sample for metric in metrics for sample in metric.samples]
                total = sum(sample.value for sample in samples)
                metrics[0].samples = [samples[0]._replace(value=total)]
                yield metrics[0]


@dataclass(slots=True)
class Request:
    """What the layers below HTTP know of the request they work for.

    ``deadline``: when its answer is due, in seconds of the event loop's clock. ``abandon``: what
    is to be called when the client leaves.
    """

    request_id: str = ""
    trace_id: str = ""
    deadline: float = math.inf
    abandon: set[Callable[[], None]] = field(default_factory=set)


_current: ContextVar[Request] = ContextVar("request")


def current() -> Request:
    """Return the request that is being answered, an anonymous one outside of any."""
    return _current.get(None) or Request()


def begin(request_id: bytes, traceparent: bytes, deadline: float) -> Request:
    """Give the request that arrived its identity, the client's where it sent a usable one."""
    usable = request_id and _REQUEST_ID.fullmatch(request_id)
    trace = traceparent and _TRACEPARENT.fullmatch(traceparent)
    request = Request(
        request_id.decode("ascii") if usable else f"{random.getrandbits(128):032x}",
        trace[1].decode("ascii") if trace else "",
        deadline,
    )
    _current.set(request)
    return request


def record_answer(method: str, route: str, status: int, seconds: float) -> None:
    """Note an answered request for the next `publish`."""
    _answers[method, route, status].append(seconds)


def publish(in_flight: int, queue_rows: int) -> None:
    """Bring the metrics up to date that would cost too much to set with every request."""
    _http_in_flight.set(in_flight)
    _queue_rows.set(queue_rows)
    for (method, route, status), seconds in _answers.items():
        _requests_counter(method, route, status).inc(len(seconds))
        _duration_histogram(route).observe_all(seconds)
    _answers.clear()


def record_refusal(error: ServiceError) -> None:
    """Count a request that is answered with an error, and log what made the model fail."""
    if error.reason:
        _rejection_counter(error.reason).inc()
    if error.__cause__ is not None:
        log.error("inference failed", exc_info=error.__cause__)


def record_model(name: str, version: str, runtime: str, max_rows: int) -> None:
    """Publish which model is ready, and in which batches it runs."""
    _model_info.labels(name, version, runtime).set(1)
    BATCH_MAX_ROWS.set(max_rows)
    READY.set(1)


async def metrics_page() -> bytes:
    """Render the metrics of all workers in Prometheus' text format."""
    if process.METRICS_DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    process.forget_dead_workers()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_Workers())
    for _ in range(_READ_TRIES):
        # A worker that starts makes its files, and for a moment they are empty.
        with contextlib.suppress(struct.error):
            return generate_latest(registry)
        await asyncio.sleep(_READ_PAUSE)
    return generate_latest(registry)


def configure_logging(settings: Settings) -> None:
    """Send every log record of this process to standard output, in the chosen format."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_add_request)
    if settings.log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                "%(message)s",
                timestamp="timestamp",
                rename_fields={"levelname": "level", "name": "logger"},
                reserved_attrs=_RESERVED,
            )
        )
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s%(request_suffix)s")
        )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


_NOT_LOGGED: Final = ("message", "asctime", "request_suffix", "color_message")
_RESERVED: Final = [
    name
    for name in (*vars(logging.makeLogRecord({})), *_NOT_LOGGED)
    if name not in {"levelname", "name"}
]


def _add_request(record: logging.LogRecord) -> bool:
    request = current()
    record.request_suffix = f" [{request.request_id}]" if request.request_id else ""
    if request.request_id:
        record.request_id = request.request_id
    if request.trace_id:
        record.trace_id = request.trace_id
    return True


@functools.cache
def _requests_counter(method: str, route: str, status: int) -> Counter:
    return _http_requests.labels(method, route, status)


@functools.cache
def _duration_histogram(route: str) -> Durations:
    return _http_duration.labels(route)


@functools.cache
def _rejection_counter(reason: str) -> Counter:
    return _rejected.labels(reason)
