"""Traces of real services: on each server they reach a collector, and none of it is waited for."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVER_VARIANTS, Covers
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from inferplate.template.variants import Variant
from inferplate_tools.client import HOST, HeldRequest, ask, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, free_port
from inferplate_tools.workbench import Workbench

pytestmark = pytest.mark.slow

ASKED = 12
OWN_SPAN = """

_convert = to_tensors


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    from opentelemetry import trace

    with trace.get_tracer("owner").start_as_current_span("own"):
        return _convert(instances)
"""
FLUSH = 2.0
"""Seconds in which a service sends its last spans, as docs/telemetry.md says."""


class Collector(ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP. ``hangs``: whether it answers nothing."""

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__((HOST, 0), _Handler)
        self.hangs = hangs
        self.ended = threading.Event()
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def resources(self, name: str) -> set[str]:
        """Return the values of an attribute of the processes that sent something."""
        return {
            attribute.value.string_value
            for request in self.requests
            for group in request.resource_spans
            for attribute in group.resource.attributes
            if attribute.key == name
        }

    def spans(self, name: str) -> list[Any]:
        return [
            span
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
            if span.name == name
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.hangs:
            self.server.ended.wait(60)
            return
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    with Collector(hangs=hangs) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.ended.set()
            collector.shutdown()


def parents(spans: list[Any]) -> set[bytes]:
    return {span.parent_span_id for span in spans}


def ids(spans: list[Any]) -> set[bytes]:
    return {span.span_id for span in spans}


@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_each_worker_sends_its_spans_before_it_ends(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("traces reach a collector", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    with (project / "src/service/predict.py").open("a") as predict:
        predict.write(OWN_SPAN)
    golden = Golden.of(project)
    with collecting() as collector:
        settings = {
            "OTEL_BSP_SCHEDULE_DELAY": "600000",  # nothing is sent before the end
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "flowers",
            "SERVICE_THREADS": "1",
            "SERVICE_WORKERS": "2",
        }
        with Service(project, bench.python, settings) as service:
            service.wait_ready()
            given = [f"{number:032x}" for number in range(1, ASKED + 1)]
            for trace in given:
                header = {"traceparent": f"00-{trace}-00000000000000ab-01"}
                answer = ask(service.port, "GET", "/v2", headers=header)
                assert answer.status == 200
            for _ in range(ASKED):
                assert post_json(service.port, "/predict", golden.typed_request).status == 200
            assert collector.requests == []
            with HeldRequest(service.port, "/predict", golden.typed_request) as held:
                service.terminate()
                time.sleep(0.5)
                assert held.finish().status == 200
            service.wait_exit()
    traced = collector.spans("GET /v2")
    assert sorted(span.trace_id.hex() for span in traced) == given
    assert parents(traced) == {bytes.fromhex("00000000000000ab")}
    predictions = collector.spans("POST /predict")
    assert len(predictions) == ASKED + 1
    assert parents(predictions) == {b""}
    batches = collector.spans("batch")
    assert parents(batches) == parents(collector.spans("queue")) == ids(predictions)
    in_requests = [span for span in collector.spans("own") if span.parent_span_id]
    assert len(in_requests) == len(predictions)  # without those of the examples at the start
    assert parents(in_requests) == ids(predictions)
    assert parents(collector.spans("model")) == ids(batches)
    assert collector.resources("service.name") == {"flowers"}
    assert len(collector.resources("service.instance.id")) == len(collector.requests)


@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
@pytest.mark.parametrize("state", ["gone", "hanging"])
def test_a_collector_that_does_not_answer_is_not_waited_for(
    variant: Variant, state: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(variant)
    golden = Golden.of(project)
    with collecting(hangs=True) as collector:
        gone = f"http://{HOST}:{free_port()}"
        settings = {
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_ENDPOINT": gone if state == "gone" else collector.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5" if state == "gone" else "60",
            "SERVICE_THREADS": "1",
        }
        with Service(project, bench.python, settings) as service:
            service.wait_ready()
            slowest = 0.0
            for _ in range(ASKED):
                began = time.monotonic()
                assert post_json(service.port, "/predict", golden.typed_request).status == 200
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.1)
            began = time.monotonic()
            service.terminate()
            service.wait_exit()
            ended = time.monotonic() - began
            log = service.log.read_text()
    assert slowest < 2
    assert ended < FLUSH + 4
    lost = [line for line in log.splitlines() if "traces are lost" in line]
    assert len(lost) == (1 if state == "gone" else 0), log
    assert ("could not be sent in 2 s" in log) is (state == "hanging"), log
    assert "Traceback" not in log
    assert "retrying" not in log.replace(lost[0], "") if lost else True


def test_what_cannot_work_is_one_line_before_the_start(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(SERVER_VARIANTS[0])
    with Service(project, bench.python, {"OTEL_TRACES_EXPORTER": "pigeon"}) as service:
        service._process.wait(30)
        assert service.code == 1
        (line,) = service.log.read_text().splitlines()
    assert line.startswith("service: OTEL_TRACES_EXPORTER names 'pigeon', and no exporter")


def test_spans_of_fastapi_are_inside_those_of_the_service(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(SERVER_VARIANTS[0])
    app = project / "src/service/app.py"
    text = app.read_text(encoding="utf-8")
    assert text.count('"tracing": False') == 1
    app.write_text(text.replace('"tracing": False', '"tracing": True'), encoding="utf-8")
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SERVICE_THREADS": "1"}
        with Service(project, bench.python, settings) as service:
            service.wait_ready()
            request = Golden.of(project).typed_request
            assert post_json(service.port, "/predict", request).status == 200
            service.terminate()
            service.wait_exit()
    outer, inner = sorted(
        collector.spans("POST /predict"), key=lambda span: span.start_time_unix_nano
    )
    assert outer.parent_span_id == b""
    assert (inner.parent_span_id, inner.trace_id) == (outer.span_id, outer.trace_id)
    (endpoint,) = collector.spans("fastapi.endpoint")
    assert endpoint.parent_span_id == inner.span_id
    assert parents(collector.spans("queue")) == {endpoint.span_id}
