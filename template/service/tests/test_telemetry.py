"""Metrics and logs."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Literal

import httpx
import pytest
from conftest import Doubler, Serve

from service import process
from service.config import Settings
from service.telemetry import begin, configure_logging, metrics_page

pytestmark = pytest.mark.anyio

TENSOR = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def value(page: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


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
        await service.client.post("/v2/models/doubler/infer", json={"inputs": [TENSOR]})
        await service.client.post("/v2/models/doubler/infer", json={})
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
    reading = asyncio.create_task(metrics_page())
    await asyncio.sleep(0)
    assert not reading.done()
    empty.unlink()
    assert await reading == b""


async def test_request_ids(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        given = await service.client.get("/v2", headers={"x-request-id": "order-66"})
        hostile = await service.client.get("/v2", headers={"x-request-id": "a b\tc"})
        made = await service.client.get("/v2")
    assert given.headers["x-request-id"] == "order-66"
    assert re.fullmatch("[0-9a-f]{32}", hostile.headers["x-request-id"])
    assert hostile.headers["x-request-id"] != made.headers["x-request-id"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_logs_carry_the_request(
    log_format: Literal["json", "console"],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logging(Settings(log_format=log_format))
    begin(b"order-66", f"00-{TRACE}-b7ad6b7169203331-01".encode(), 0)
    logging.getLogger("service").warning("attention", extra={"status": 500})
    line = capsys.readouterr().out.strip()
    assert "\n" not in line
    if log_format == "console":
        assert line.endswith("WARNING service: attention [order-66]")
        return
    record = json.loads(line)
    assert record.pop("timestamp")
    assert record == {
        "level": "WARNING",
        "logger": "service",
        "message": "attention",
        "request_id": "order-66",
        "trace_id": TRACE,
        "status": 500,
    }


async def test_problems_are_logged_with_their_cause(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    model = Doubler()
    poisoned = {**TENSOR, "data": [model.poison] * 4}
    async with serve(model) as service:
        await service.client.post("/v2/models/doubler/infer", json={"inputs": [poisoned]})
    messages = [record.getMessage() for record in caplog.records]
    assert "inference failed" in messages
    assert "POST /v2/models/doubler/infer 500" in messages
    assert "a secret" in caplog.text


async def test_log_lines_cannot_be_forged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve(Doubler(), access_log="all") as service:
        answer = await service.client.get("/a%0Ab")
    assert answer.status_code == 404
    messages = [record.getMessage() for record in caplog.records]
    assert "GET '/a\\nb' 404" in messages


async def page(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text
