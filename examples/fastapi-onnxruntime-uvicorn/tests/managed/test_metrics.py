"""Metrics in Prometheus' format."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from managed.conftest import Serve
from managed.support import INFER, Doubler, ask
from service.ops import metrics, process
from service.ops.metrics import Durations

pytestmark = pytest.mark.anyio


async def test_metrics(serve: Serve) -> None:
    samples = {
        'http_requests_total{method="POST",route="/v2/models/{name}/infer",status="200"}': 1,
        'http_request_duration_seconds_count{route="/v2/models/{name}/infer"}': 2,
        'http_requests_total{method="GET",route="unmatched",status="404"}': 1,
        'inference_rejected_total{reason="malformed"}': 1,
        "inference_batch_rows_sum": 2,
        "inference_duration_seconds_count": 1,
        "inference_queue_wait_seconds_count": 1,
    }
    async with serve(Doubler()) as service:
        before = await page(service.client)
        await ask(service, 1, 2)
        await service.client.post(INFER, json={})
        await service.client.get("/no/such/path")
        after = await page(service.client)
    for sample, growth in samples.items():
        assert value(after, sample) - value(before, sample) == growth, sample
    assert value(after, 'inference_model_info{name="doubler",runtime="test",version="1"}') == 1
    assert value(after, "inference_ready_workers") == 1
    assert value(after, "inference_queue_rows") == 0
    assert value(after, "http_requests_in_flight") == 1
    assert "# HELP inference_queue_rows " in after


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

    def observed(*batches: list[float]) -> bytes:
        registry = CollectorRegistry()
        durations = Durations("d", "D.", ["route"], registry=registry, buckets=(0.25, 0.5, 1, 8))
        for batch in batches:
            durations.labels("a").observe_all(batch)
        return generate_latest(registry)

    def observed_one_by_one() -> bytes:
        registry = CollectorRegistry()
        durations = Durations("d", "D.", ["route"], registry=registry, buckets=(0.25, 0.5, 1, 8))
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


def value(page: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0
