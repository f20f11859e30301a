"""Requests that nobody waits for any more: deadlines, and clients that leave."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from managed.conftest import Serve
from managed.support import (
    INFER,
    ONE_ROW_A_BATCH,
    Doubler,
    Service,
    ask,
    held,
    outputs,
    rows,
    until,
)

pytestmark = pytest.mark.anyio


async def test_what_expires_in_the_queue_never_runs(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        late = await ask(service, 7, parameters={"timeout": 20_000})
        assert late.status_code == 504
        assert service.engine.pending_rows == 2
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.batches == [1, 1]


async def test_deadline_is_a_setting_that_the_protocol_cannot_lengthen(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, request_timeout=0.05) as service:
        model.gate.clear()
        answer = await ask(service, 1, parameters={"timeout": 60_000_000})
        assert answer.status_code == 504
        assert service.engine.pending_rows == 1, "the model has not returned yet"
        model.gate.set()
        await until(lambda: service.engine.pending_rows == 0)
        assert outputs(await ask(service, 2)) == [4]


async def test_header_shortens_the_deadline(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        for seconds in ("0.02", ".02", "20e-3", "2E-2"):
            assert (await ask_within(service, seconds)).status_code == 504
        assert service.engine.pending_rows == 2
        model.gate.set()
        await asyncio.gather(*tasks)
        for seconds in ("20", "20.", "20.5", "2e1", "200E-1", "1e9"):
            assert outputs(await ask_within(service, seconds)) == [14]
    assert model.batches == [1] * 8


async def ask_within(service: Service, seconds: str) -> httpx.Response:
    """Ask as a client does that says by a header how long it waits."""
    headers = {"request-timeout": seconds}
    return await service.client.post(INFER, json=rows(7), headers=headers)


@pytest.mark.parametrize("seconds", ["60", "9" * 400])
async def test_header_cannot_lengthen_the_deadline(serve: Serve, seconds: str) -> None:
    model = Doubler()
    async with serve(model, request_timeout=0.05) as service:
        model.gate.clear()
        assert (await ask_within(service, seconds)).status_code == 504
        model.gate.set()


@pytest.mark.parametrize("seconds", ["", "0", "0.0", "-1", "nan", "inf", "1,5", "soon", ".", "e3"])
async def test_header_that_is_no_time_is_refused(serve: Serve, seconds: str) -> None:
    model = Doubler()
    async with serve(model) as service:
        answer = await ask_within(service, seconds)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert "Request-Timeout" in answer.json()["error"]
    assert model.batches == []


async def test_client_that_leaves_takes_its_rows_along(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        sent: list[Any] = []
        leave = asyncio.Event()
        asking = asyncio.create_task(raw_request(service, rows(7), leave, sent))
        await until(lambda: service.engine.pending_rows == 3)
        leave.set()
        await until(lambda: service.engine.pending_rows == 2)
        await asking
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2]]
        metrics = (await service.client.get("/metrics")).text
    assert sent == []
    assert model.batches == [1, 1]
    assert 'inference_rejected_total{reason="disconnected"}' in metrics


async def test_cancelled_request_leaves_nothing_behind(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        tasks = await held(service, model, 1)
        asking = asyncio.create_task(raw_request(service, rows(7), asyncio.Event(), []))
        await until(lambda: service.engine.pending_rows == 3)
        asking.cancel()
        await until(lambda: service.engine.pending_rows == 2)
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.batches == [1, 1]


async def raw_request(
    service: Service, document: dict[str, Any], leave: asyncio.Event, sent: list[Any]
) -> None:
    """Ask as a server does whose client closes the connection when ``leave`` is set."""
    messages: list[Awaitable[Any]] = [arrived(json.dumps(document).encode()), left(leave)]

    async def receive() -> Any:
        return await messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": INFER,
        "raw_path": INFER.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    try:
        await service.app(scope, receive, send)
    finally:
        for message in messages:
            if asyncio.iscoroutine(message):
                message.close()


async def arrived(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


async def left(leave: asyncio.Event) -> dict[str, Any]:
    await leave.wait()
    return {"type": "http.disconnect"}
