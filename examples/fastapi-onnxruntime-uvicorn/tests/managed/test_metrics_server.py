"""The port of the metrics: what it answers, and that the service itself no longer does."""

import asyncio
import http.client
import socket

import pytest

from managed.conftest import Call, Serve
from managed.support import INFER, Doubler, ask
from service.ops.metrics import CONTENT_TYPE
from service.ops.metrics_server import metrics_server
from service.ops.settings import Settings, SettingsInvalid, load_settings

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        number: int = free.getsockname()[1]
        return number


def fetch(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    """Return status, content type and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read().decode()
    finally:
        connection.close()


async def test_metrics_are_there_and_nowhere_else(serve: Serve, port: int) -> None:
    async with serve(Doubler(), metrics_port=port) as service:
        await ask(service, 1)
        await asyncio.sleep(0.1)  # until they are published
        status, content_type, page = await asyncio.to_thread(fetch, port)
        assert (status, content_type) == (200, CONTENT_TYPE)
        assert f'route="{INFER.replace("doubler", "{name}")}",status="200"' in page
        for path in ("/v2/health/live", "/", "/metrics/x", INFER):
            assert (await asyncio.to_thread(fetch, port, path))[0] == 404
        assert (await asyncio.to_thread(fetch, port, "/metrics?a=b"))[0] == 200
        assert await asyncio.to_thread(fetch, port, "/metrics", "HEAD") == (200, CONTENT_TYPE, "")
        assert (await asyncio.to_thread(fetch, port, "/metrics", "POST"))[0] == 501
        own = await service.client.get("/metrics")
        assert own.status_code == 404
        assert own.headers["content-type"] == "application/problem+json"
        assert "/metrics" not in (await service.client.get("/openapi.json")).json()["paths"]
    with pytest.raises(ConnectionRefusedError):
        fetch(port)


async def test_clients_that_say_nothing_hold_up_nobody(serve: Serve, port: int) -> None:
    async with serve(Doubler(), metrics_port=port):
        silent = [socket.create_connection((HOST, port)) for _ in range(4)]
        assert (await asyncio.to_thread(fetch, port))[0] == 200
        for each in silent:
            each.close()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="workers cannot share a port")
def test_workers_share_it(port: int) -> None:
    several = Settings(metrics_port=port, workers=2)
    with metrics_server(several):
        with metrics_server(several):
            pass
        assert fetch(port)[0] == 200


@pytest.mark.usefixtures("about_to_serve")
def test_port_in_use_is_named(call: Call, port: int) -> None:
    with socket.create_server((HOST, port)):
        code, text = call()
    assert (code, "SERVICE_METRICS_PORT cannot be used: " in text) == (1, True), text


@pytest.fixture
def about_to_serve(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Set the port, and have a model."""
    from service.core import manifest

    monkeypatch.setenv("SERVICE_METRICS_PORT", str(port))
    monkeypatch.setattr(manifest, "read", lambda folder: None)
    monkeypatch.setattr(manifest, "locate", lambda *_: None)
    monkeypatch.setattr("service.server", None, raising=False)


@pytest.mark.parametrize(("own", "metrics"), [("9000", "9000"), ("9000", "-1"), ("9000", "x")])
def test_wrong_ports_are_refused(monkeypatch: pytest.MonkeyPatch, own: str, metrics: str) -> None:
    monkeypatch.setenv("SERVICE_PORT", own)
    monkeypatch.setenv("SERVICE_METRICS_PORT", metrics)
    with pytest.raises(SettingsInvalid, match="SERVICE_METRICS_PORT"):
        load_settings()
