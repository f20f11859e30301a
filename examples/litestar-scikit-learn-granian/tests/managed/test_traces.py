"""Traces: the spans of a request and of its batch, and where they are sent."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from managed.conftest import Serve
from managed.support import INFER, ONE_ROW_A_BATCH, Doubler, ask, held, rows, until
from service.core.tensors import Tensors
from service.ops import traces
from service.ops.logs import current_request

pytestmark = pytest.mark.anyio

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
CLOCKS = 20_000_000
"""Nanoseconds by which times of two clocks may be off while the machine is busy."""


@dataclass
class Exporter:
    """Keeps spans, fails to or takes long, as a test wants."""

    spans: list[Any] = field(default_factory=list)
    fails: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def export(self, spans: Sequence[Any]) -> Any:
        self.gate.wait(10)
        if self.fails:
            logging.getLogger(traces._NOISY[0]).error("Failed to export: nobody listens")
            return SimpleNamespace(name="FAILURE")
        self.spans += spans
        return SimpleNamespace(name="SUCCESS")

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def named(self, *names: str) -> list[Any]:
        """Return the spans with these names, in the order of their beginning."""
        found = [span for span in self.spans if span.name in names]
        return sorted(found, key=lambda span: span.start_time)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    """Turn traces on; the spans of a service are there when it has ended."""
    made = Exporter()
    entry = SimpleNamespace(load=lambda: lambda: made)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "memory")
    monkeypatch.setattr(traces, "_entry_point", lambda name: entry)
    return made


def is_inside(span: Any, other: Any) -> bool:
    return bool(span.parent.span_id == other.context.span_id)


def is_traced() -> bool:
    from opentelemetry import trace

    return bool(trace.get_current_span().get_span_context().is_valid)


def links(span: Any) -> list[int]:
    return [link.context.span_id for link in span.links]


async def test_a_request_has_spans_from_its_arrival_to_the_model(
    serve: Serve, exporter: Exporter
) -> None:
    async with serve(Doubler()) as service:
        headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
        answer = await service.client.post(INFER, json=rows(1, 2), headers=headers)
    assert answer.status_code == 200
    assert not is_traced(), "the span of a request is active after it"
    (request,) = exporter.named("POST /v2/models/{name}/infer")
    (queue,) = exporter.named("queue")
    (batch,) = exporter.named("batch")
    (model,) = exporter.named("model")
    assert len(exporter.spans) == 4
    assert {f"{span.context.trace_id:032x}" for span in exporter.spans} == {TRACE}
    assert f"{request.parent.span_id:016x}" == SPAN
    assert request.context.trace_state.to_header() == "vendor=1"
    assert request.kind.name == "SERVER"
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/v2/models/{name}/infer",
        "network.protocol.version": "1.1",
        "server.address": "service",
        "url.path": INFER,
        "url.scheme": "http",
    }
    assert request.status.status_code.name == "UNSET"
    assert is_inside(queue, request)
    assert is_inside(batch, request)
    assert is_inside(model, batch)
    assert links(queue) == [batch.context.span_id]
    assert links(batch) == [request.context.span_id]
    about = {"inference.model.name": "doubler", "inference.model.version": "1"}
    size = {"inference.batch.rows": 2, "inference.batch.requests": 1}
    assert dict(batch.attributes) == {**about, **size}
    assert dict(model.attributes) == {**about, "inference.batch.rows": 2}
    assert queue.start_time >= request.start_time - CLOCKS
    assert queue.start_time <= queue.end_time <= model.start_time + CLOCKS
    assert model.end_time <= batch.end_time <= request.end_time + CLOCKS
    resource = request.resource.attributes
    assert resource["service.name"] == os.environ.get("OTEL_SERVICE_NAME", resource["service.name"])
    assert not resource["service.name"].startswith("unknown_service")


async def test_a_batch_is_linked_to_its_requests(serve: Serve, exporter: Exporter) -> None:
    model = Doubler()
    async with serve(model) as service:
        tasks = await held(service, model, 3)
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.batches == [1, 3]
    first, *others = exporter.named("POST /v2/models/{name}/infer")
    alone, together = exporter.named("batch")
    assert links(alone) == [first.context.span_id]
    assert sorted(links(together)) == sorted(span.context.span_id for span in others)
    assert together.attributes["inference.batch.rows"] == 3
    assert together.attributes["inference.batch.requests"] == 3
    waits = exporter.named("queue")
    assert len(waits) == 4
    assert len({span.context.trace_id for span in waits}) == 4
    for request in others:
        (wait,) = [span for span in waits if is_inside(span, request)]
        assert links(wait) == [together.context.span_id]
        assert wait.end_time <= together.start_time + CLOCKS


async def test_what_expires_in_the_queue_shows_how_long_it_waited(
    serve: Serve, exporter: Exporter
) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 0)
        late = await ask(service, 7, parameters={"timeout": 20_000})
        model.gate.set()
        await asyncio.gather(*tasks)
    assert late.status_code == 504
    _, request = exporter.named("POST /v2/models/{name}/infer")
    _, wait = exporter.named("queue")
    assert is_inside(wait, request)
    assert wait.attributes["error.type"].endswith("DeadlineExceeded")
    assert wait.end_time - wait.start_time >= 15_000_000
    assert links(wait) == []
    assert request.attributes["error.type"] == "504"
    assert request.status.status_code.name == "ERROR"
    assert len(exporter.named("batch")) == 1


async def test_errors_are_named_by_their_kind_alone(serve: Serve, exporter: Exporter) -> None:
    model = Doubler()
    async with serve(model) as service:
        assert (await ask(service, model.poison)).status_code == 500
        assert (await service.client.post(INFER, content=b"{")).status_code == 400
        assert (await service.client.get("/nothing/here")).status_code == 404
    failed, malformed = exporter.named("POST /v2/models/{name}/infer")
    for span in (failed, *exporter.named("batch", "model")):
        assert span.status.status_code.name == "ERROR"
    for span in exporter.named("batch", "model"):
        assert span.attributes["error.type"] == "ValueError"
    assert failed.attributes["error.type"] == "500"
    assert "secret" not in "".join(span.to_json() for span in exporter.spans)
    (unknown,) = exporter.named("GET")
    for span, status in ((malformed, 400), (unknown, 404)):
        assert span.attributes["http.response.status_code"] == status
        assert span.status.status_code.name == "UNSET"
        assert "error.type" not in span.attributes
    assert "http.route" not in unknown.attributes


@pytest.mark.parametrize("path", ["/own/span", "/own/span-in-thread"])
async def test_own_spans_are_inside_and_are_carried_on(
    serve: Serve, exporter: Exporter, path: str
) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.get(path, headers={"traceparent": PARENT})
    (request,) = exporter.named(f"GET {path}")
    (own,) = exporter.named("own")
    assert is_inside(own, request)
    assert answer.json() == {"traceparent": f"00-{TRACE}-{own.context.span_id:016x}-01"}


async def test_own_spans_in_the_model_are_inside_its_span(serve: Serve, exporter: Exporter) -> None:
    class Traced(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            with sdk_tracer().start_as_current_span("own"):
                return super().run(batch)

    async with serve(Traced()) as service:
        await ask(service, 1)
    (model,) = exporter.named("model")
    assert is_inside(exporter.named("own")[-1], model)


def sdk_tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("owner")


async def test_what_the_client_does_not_sample_is_not_recorded(
    serve: Serve, exporter: Exporter
) -> None:
    parent = f"{PARENT[:-2]}00"
    async with serve(Doubler()) as service:
        given = {"traceparent": parent}
        await service.client.post(INFER, json=rows(1), headers=given)
        answer = await service.client.get("/own/span", headers=given)
    assert exporter.spans == []
    carried = answer.json()["traceparent"]
    assert carried.startswith(f"00-{TRACE}-")
    assert not carried.startswith(f"00-{TRACE}-{SPAN}")
    assert carried.endswith("-00")


async def test_probes_metrics_and_pages_are_not_traced(serve: Serve, exporter: Exporter) -> None:
    async with serve(Doubler()) as service:
        for path in (
            *("/v2/health/live", "/v2/health/ready", "/v2/models/doubler/ready"),
            *("/metrics", "/docs", "/openapi.json"),
        ):
            assert (await service.client.get(path)).status_code == 200
        await service.client.get("/v2/models/doubler")
    assert [span.name for span in exporter.spans] == ["GET /v2/models/{name}"]


async def test_parents_that_are_not_valid_begin_a_trace(serve: Serve, exporter: Exporter) -> None:
    state = ("tracestate", "vendor=1")
    several = [("traceparent", PARENT), ("traceparent", PARENT), state]
    async with serve(Doubler()) as service:
        for headers in (several, [("traceparent", f"ff{PARENT[2:]}"), state]):
            await service.client.get("/v2", headers=headers)
        later = f"cc{PARENT[2:]}-{'x' * 600}"
        await service.client.get("/v2", headers={"traceparent": later})
    *others, last = exporter.named("GET /v2")
    assert [span.parent for span in others] == [None, None]
    assert all(not span.context.trace_state for span in others)
    assert f"{last.context.trace_id:032x}" == TRACE
    assert f"{last.parent.span_id:016x}" == SPAN


async def test_logs_have_the_id_of_the_trace(serve: Serve, exporter: Exporter) -> None:
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(current_request.get().trace_id)

    log = logging.getLogger("service.front")
    log.addHandler(handler := Handler())
    try:
        async with serve(Doubler()) as service:
            await ask(service, Doubler.poison)
    finally:
        log.removeHandler(handler)
    (request,) = exporter.named("POST /v2/models/{name}/infer")
    assert found == [f"{request.context.trace_id:032x}"]


async def test_an_outage_is_logged_once(
    serve: Serve, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry import trace

    caplog.set_level(logging.INFO)
    exporter.fails = True
    async with serve(Doubler()) as service:
        provider: Any = trace.get_tracer_provider()
        for _ in range(3):
            await ask(service, 1)
            await asyncio.to_thread(provider.force_flush)
        exporter.fails = False
        await ask(service, 1)
    assert len(exporter.named("batch")) == 1
    messages = [record.getMessage() for record in caplog.records]
    lost = "traces are lost, they cannot be sent: Failed to export: nobody listens"
    assert [text for text in messages if "traces" in text or "export" in text] == [
        lost,
        "traces can be sent again",
    ]


async def test_a_collector_that_hangs_holds_up_nothing(
    serve: Serve,
    exporter: Exporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(traces, "_FLUSH", 0.1)
    exporter.gate.clear()
    async with serve(Doubler()) as service:
        assert (await ask(service, 1)).status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 5
    exporter.gate.set()
    assert "the last spans could not be sent in 0.1 s" in caplog.text
    await until(lambda: not any(each.name == "traces" for each in threading.enumerate()))


async def test_a_provider_of_the_application_is_used_as_it_is(
    serve: Serve, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    theirs = Exporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    kept: Any = theirs
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    async with serve(Doubler()) as service:
        await ask(service, 1)
    assert len(theirs.spans) == 4
    assert exporter.spans == []
