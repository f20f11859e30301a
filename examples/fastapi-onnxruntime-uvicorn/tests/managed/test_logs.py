"""Logs, and the ids that they carry."""

import io
import json
import logging
import re
import sys
from typing import Literal

import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler, ask
from service.ops.logs import RequestIdentity, configure_logging, current_request
from service.ops.settings import Settings
from service.web.request_ids import request_id

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_request_ids(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        given = await service.client.get("/v2", headers={"x-request-id": "order-66"})
        hostile = await service.client.get("/v2", headers={"x-request-id": "a b\tc"})
        made = await service.client.get("/v2")
    assert given.headers["x-request-id"] == "order-66"
    assert re.fullmatch("[0-9a-f]{32}", hostile.headers["x-request-id"])
    assert hostile.headers["x-request-id"] != made.headers["x-request-id"]


@pytest.mark.parametrize("given", [b"", b"a b", b"a\nb", b"x" * 129, "é".encode()])
def test_ids_that_could_break_a_log_are_replaced(given: bytes) -> None:
    assert re.fullmatch("[0-9a-f]{32}", request_id({b"x-request-id": given}))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_records_carry_the_request(
    log_format: Literal["json", "console"],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logging(Settings(log_format=log_format))
    token = current_request.set(RequestIdentity("order-66", TRACE))
    logging.getLogger("service").warning("attention", extra={"status": 500})
    current_request.reset(token)
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


@pytest.mark.parametrize("at_terminal", [True, False])
def test_lines_at_a_terminal_are_for_people(
    at_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Output(io.StringIO):
        def isatty(self) -> bool:
            return at_terminal

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "stdout", output := Output())
    configure_logging(Settings())
    logging.getLogger("service").warning("attention")
    assert output.getvalue().startswith("{") is not at_terminal


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_long_texts_are_cut(
    log_format: Literal["json", "console"],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logging(Settings(log_format=log_format))
    log = logging.getLogger("service")
    text = f"{'x' * 1_000_000}the last word"
    try:
        raise ValueError(text)
    except ValueError as error:
        log.exception("failed: %s", error)
    written = capsys.readouterr().out
    assert len(written) < 50_000
    assert written.count("characters left out]") == 2
    assert written.count("the last word") == 2
    assert "failed: xxx" in written
    assert "Traceback" in written


async def test_problems_are_logged_with_their_cause(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    model = Doubler()
    async with serve(model) as service:
        await ask(service, model.poison)
    messages = [record.getMessage() for record in caplog.records]
    assert "inference failed" in messages
    assert f"POST {INFER} 500" in messages
    assert "a secret" in caplog.text


async def test_accesses_that_are_problems_are_warnings(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = Doubler()
    async with serve(model, access_log="all") as service:
        await ask(service, 1)
        await ask(service, model.poison)
    accesses = [record for record in caplog.records if record.getMessage().startswith("POST ")]
    assert [record.levelname for record in accesses] == ["INFO", "WARNING"]


async def test_log_lines_cannot_be_forged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve(Doubler(), access_log="all") as service:
        answer = await service.client.get("/a%0Ab")
    assert answer.status_code == 404
    messages = [record.getMessage() for record in caplog.records]
    assert "GET '/a\\nb' 404" in messages
