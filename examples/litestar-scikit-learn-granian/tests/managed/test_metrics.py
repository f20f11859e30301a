"""Metrics in Prometheus' format."""

import asyncio
import gzip
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from managed.conftest import Serve
from managed.support import INFER, Doubler, ask, rows
from service.core.request_context import RequestContext
from service.ops import metrics, process
from service.ops.metrics import BulkHistogram
from service.web.request_cycle import RequestCycle
from service.web.service_info import service_info

pytestmark = pytest.mark.anyio


ROUTE = "/v2/models/{name}/infer"
DOUBLER = {"model": "doubler", "version": "1"}


async def test_metrics(serve: Serve) -> None:
    requests, duration = "http_requests_total", "http_request_duration_seconds_count"
    samples = {
        sample(requests, method="POST", route=ROUTE, status=200): 1,
        sample(duration, route=ROUTE, status_class="2xx"): 1,
        sample(duration, route=ROUTE, status_class="4xx"): 1,
        sample(requests, method="GET", route="unmatched", status=404): 2,
        sample(duration, route="unmatched", status_class="4xx"): 2,
        sample("inference_rejected_total", reason="malformed"): 1,
        sample("inference_batch_rows_sum", **DOUBLER): 2,
        sample("inference_duration_seconds_count", batch_size=2, **DOUBLER): 1,
        sample("inference_queue_wait_seconds_count", **DOUBLER): 1,
    }
    async with serve(Doubler()) as service:
        before = await page(service.client)
        await ask(service, 1, 2)
        await service.client.post(INFER, json={})
        await service.client.get("/no/such/path")
        await service.client.get("/no/other/path")
        after = await page(service.client)
    for name, growth in samples.items():
        assert value(after, name) - value(before, name) == growth, name
    assert value(after, 'inference_model_info{name="doubler",runtime="test",version="1"}') == 1
    assert value(after, "inference_ready_workers") == 1
    assert value(after, "inference_queue_rows") == 0
    assert value(after, "http_requests_in_flight") == 1
    assert "# HELP inference_queue_rows " in after
    assert "/no/" not in after


async def test_what_the_service_is_made_of(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        (line,) = re.findall(r"^inference_build_info\{.*", await page(service.client), re.MULTILINE)
    labels = dict(re.findall(r'(\w+)="([^"]+)"', line))
    info = service_info()
    assert (labels["service"], labels["version"]) == (info.distribution, info.version)
    assert labels["python"] == platform.python_version()
    assert labels["framework"] in ("fastapi", "litestar", "ninja")
    assert labels.keys() == {"service", "version", "framework", "runtime", "server", "python"}
    assert line.endswith(" 1.0")


REQUEST, RESPONSE = "http_request_size_bytes", "http_response_size_bytes"


async def test_sizes_are_those_on_the_wire(serve: Serve) -> None:
    document = rows(*range(100, 1100))
    packed = gzip.compress(json.dumps(document).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with serve(Doubler()) as service:
        before = await page(service.client)
        request = service.client.build_request("POST", INFER, content=packed, headers=headers)
        request.headers["accept-encoding"] = "gzip"
        response = await service.client.send(request, stream=True)
        sent = sum([len(part) async for part in response.aiter_raw()])
        assert (response.status_code, response.headers["content-encoding"]) == (200, "gzip")
        after = await page(service.client)
    assert grown(before, after, REQUEST) == (1, len(packed))
    assert grown(before, after, RESPONSE) == (1, sent)
    assert sent == int(response.headers["content-length"])


async def test_size_of_a_body_in_parts_that_does_not_tell_its_length(serve: Serve) -> None:
    parts = [b'{"inputs": [', b" " * 3000, b"]}"]

    async def sent_in_parts() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async with serve(Doubler()) as service:
        before = await page(service.client)
        response = await service.client.post(
            INFER, content=sent_in_parts(), headers={"content-type": "application/json"}
        )
        after = await page(service.client)
    assert response.status_code == 400
    assert grown(before, after, REQUEST) == (1, sum(map(len, parts)))
    assert grown(before, after, RESPONSE) == (1, len(response.content))
    for bound, growth in ((1024, 0), (4096, 1)):
        bucket = sample(f"{REQUEST}_bucket", le=f"{bound}.0", route=ROUTE)
        assert value(after, bucket) - value(before, bucket) == growth


async def test_size_of_a_response_that_is_sent_in_pieces(serve: Serve) -> None:
    document = rows(*[1 / 3] * 60_000)
    async with serve(Doubler(), max_batch_size=60_000, max_queue_size=60_000) as service:
        before = await page(service.client)
        response = await service.client.post(
            INFER, json=document, headers={"accept-encoding": "identity"}
        )
        after = await page(service.client)
    assert response.status_code == 200
    assert "content-length" not in response.headers
    assert len(response.content) > 2**20
    assert grown(before, after, RESPONSE) == (1, len(response.content))


async def test_head_sends_no_body(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        before = await page(service.client)
        assert (await service.client.head("/openapi.json")).status_code == 200
        after = await page(service.client)
    assert grown(before, after, RESPONSE, "/openapi.json") == (1, 0)


@pytest.mark.parametrize(("cut", "counted"), [(False, 5), (True, 0)])
async def test_size_of_a_file_that_the_server_sends(
    tmp_path: Path, cut: bool, counted: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    context = RequestContext(60)
    cycle = RequestCycle(
        context,
        receive,
        send,
        is_head=False,
        http_version="2",
        length=0,
        draining=lambda: False,
    )
    await cycle.send({"type": "http.response.start", "status": 200})
    if cut:
        context.cancel()
    await cycle.send({"type": "http.response.pathsend", "path": str(file)})
    assert (len(messages), cycle.sent) == (1 if cut else 2, counted)


@pytest.mark.parametrize(("status", "label"), [(0, "none"), (204, "2xx"), (499, "4xx")])
def test_durations_are_by_class_of_status(status: int, label: str) -> None:
    metrics.record_answer("GET", f"/{status}", status, 0.5, 0, 0)
    metrics.publish(0, 0)
    now = generate_latest(REGISTRY).decode()
    labels = {"route": f"/{status}", "status_class": label}
    assert value(now, sample("http_request_duration_seconds_sum", **labels)) == 0.5


@pytest.mark.parametrize(
    ("rows", "label"),
    [(1, "1"), (2, "2"), (3, "4"), (4, "4"), (5, "8"), (1024, "1024"), (1025, "+Inf")],
)
def test_time_in_the_model_is_by_size_of_batch(rows: int, label: str) -> None:
    of_model = {"model": "m", "version": str(rows)}
    metrics.record_batch("m", str(rows), rows, 0.5, [0.25, 0.25])
    metrics.publish(0, 0)
    metrics.publish(0, 0)
    now = generate_latest(REGISTRY).decode()
    seconds = sample("inference_duration_seconds_sum", batch_size=label, **of_model)
    assert value(now, seconds) == 0.5
    assert value(now, sample("inference_queue_wait_seconds_sum", **of_model)) == 0.5


def test_a_worker_that_died_leaves_its_counts_and_no_gauges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(process.METRICS_DIRECTORY, str(tmp_path))
    code = """
from service.ops import metrics
metrics.record_model("m", "1", "test", 8)
metrics.record_build("s", "1.2.3")
metrics.record_answer("GET", "/", 200, 0.5, 3, 5)
metrics.publish(1, 2)
print("there", flush=True)
input()
"""
    with subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "there\n"
        alive = asyncio.run(metrics.render()).decode()
        worker.kill()
    dead = asyncio.run(metrics.render()).decode()
    gone = (
        *("inference_ready_workers", "inference_queue_rows", "inference_max_batch_size"),
        *("inference_model_info", "inference_build_info", "http_requests_in_flight"),
    )
    for name in gone:
        assert re.search(rf"^{name}\b", alive, re.MULTILINE), name
        assert not re.search(rf"^{name}\b", dead, re.MULTILINE), name
    for page_ in (alive, dead):
        assert value(page_, sample("http_requests_total", method="GET", route="/", status=200)) == 1
        assert value(page_, sample(f"{REQUEST}_sum", route="/")) == 3
        assert value(page_, sample(f"{RESPONSE}_sum", route="/")) == 5


async def test_metrics_of_a_worker_that_just_starts_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(process.METRICS_DIRECTORY, str(tmp_path))
    empty = tmp_path / "counter_1.db"
    empty.touch()
    reading = asyncio.create_task(metrics.render())
    await asyncio.sleep(0)
    assert not reading.done()
    empty.unlink()
    assert await reading == b""


def test_durations_observed_at_once_count_like_one_by_one() -> None:
    values = [0.0, 0.25, 0.3, 0.5, 0.5, 1.0, 7.5, 64.0]  # also at a bound, and beyond the last

    def histogram(registry: CollectorRegistry) -> BulkHistogram:
        return BulkHistogram("d", "D.", ["route"], registry=registry, buckets=(0.25, 0.5, 1, 8))

    def observed(*batches: list[float]) -> bytes:
        registry = CollectorRegistry()
        durations = histogram(registry)
        for batch in batches:
            durations.labels("a").observe_all(batch)
        return generate_latest(registry)

    def observed_one_by_one() -> bytes:
        registry = CollectorRegistry()
        durations = histogram(registry)
        for value in values:
            durations.labels("a").observe(value)
        return generate_latest(registry)

    assert b'd_bucket{le="0.5",route="a"} 5.0' in observed_one_by_one()
    assert observed(values) == observed_one_by_one()
    assert observed(values[:3], [], values[3:]) == observed_one_by_one()


async def page(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text


def sample(metric: str, **labels: object) -> str:
    """Return the name of a sample, with its labels as the page has them."""
    return metric + "{" + ",".join(f'{name}="{labels[name]}"' for name in sorted(labels)) + "}"


def value(page: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def grown(before: str, after: str, metric: str, route: str = ROUTE) -> tuple[float, float]:
    """Return how many values a histogram got between two pages, and their sum."""
    count, total = (sample(f"{metric}_{part}", route=route) for part in ("count", "sum"))
    return (
        value(after, count) - value(before, count),
        value(after, total) - value(before, total),
    )
