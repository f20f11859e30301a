"""Every setting does something: one effect of each that can be seen, off its default.

The name of a test is that of its setting, so that a new setting without a test is noticed.
"""

import asyncio
import io
import json
import logging
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from managed.conftest import Serve, Start
from managed.endpoints import ALL_ENDPOINTS
from managed.support import INFER, Doubler, FakeRuntime, Service, ask, held, outputs, rows, until
from service.core.engine import Engine
from service.core.errors import DeadlineExceeded
from service.core.manifest import Manifest
from service.core.tensors import Tensors, TensorSpec
from service.core.trial import Verdict
from service.interfaces import Model
from service.ops.connections import Connections, connection_limit
from service.ops.endpoint_settings import EndpointSettings
from service.ops.logs import configure_logging
from service.ops.settings import Settings
from service.ops.supervisor import bind
from service.web.proxies import Proxies

pytestmark = pytest.mark.anyio

OF_THE_SERVERS = {
    *("host", "port", "workers", "graceful_timeout", "drain_delay", "keep_alive_timeout"),
    *("max_header_bytes", "tls_certificate", "tls_key"),
}
"""Settings that only a running server shows; the template's own tests start all four."""

LENGTH = "Inference-Header-Content-Length"
PAGE = {"origin": "https://page.example"}


def test_there_is_a_test_for_every_setting() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    others = OF_THE_SERVERS | EndpointSettings.model_fields.keys()
    assert set(Settings.model_fields) - tested == others


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets")
def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    settings = Settings(unix_socket=path)
    assert settings.url == f"unix:{path}"
    bind(settings).close()
    assert path.stat().st_mode & 0o777 == 0o660
    with bind(settings) as listener:  # the file of a service that has ended is replaced
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            bind(settings)
    path.unlink()
    path.touch()
    with pytest.raises(FileExistsError, match="not a socket"):
        bind(settings)


async def test_header_timeout() -> None:
    closed: list[float] = []
    loop = asyncio.get_running_loop()

    class Transport(asyncio.WriteTransport):
        def abort(self) -> None:
            closed.append(loop.time())

    began = loop.time()
    Connections(Settings(header_timeout=1)).opened(Transport())
    await until(lambda: bool(closed))
    assert 0.9 < closed[0] - began < 5


def test_max_connections() -> None:
    assert connection_limit(Settings(max_connections=3)) == 3
    assert connection_limit(Settings()) > 3


async def test_metrics_port(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    async with serve(Doubler(), metrics_port=port) as service:
        assert (await service.client.get("/metrics")).status_code == 404
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert "inference_ready_workers" in (await client.get("/metrics")).text


async def test_api_keys(serve: Serve) -> None:
    async with serve(Doubler(), api_keys="a-key-that-is-long-enough") as service:
        assert (await ask(service, 1)).status_code == 401


async def test_docs(serve: Serve) -> None:
    for docs, status in ((True, 200), (False, 404)):
        async with serve(Doubler(), docs=docs) as service:
            for path in ("/docs", "/docs/docs.js", "/openapi.json"):
                assert (await service.client.get(path)).status_code == status
            for path in ("/", "/docs/"):
                found = (await service.client.get(path)).status_code
                assert found == (307 if docs else 404)


async def test_root_path(serve: Serve) -> None:
    async with serve(Doubler(), root_path="/iris") as service:
        assert (await service.client.get("/iris/v2")).status_code == 200
        document = (await service.client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/iris"}]


def test_trusted_proxies() -> None:
    scope = {
        "client": ("10.0.0.1", 5),
        "scheme": "http",
        "headers": [(b"x-forwarded-for", b"192.0.2.7")],
    }
    for trusted, host in (("10.0.0.0/8", "192.0.2.7"), ("10.9.0.0/16", "10.0.0.1")):
        proxies = Proxies(Settings(trusted_proxies=(trusted,)).trusted_proxies)
        assert proxies.apply(scope)["client"][0] == host


async def test_health_path(serve: Serve) -> None:
    async with serve(Doubler(), health_path="/health") as service:
        assert (await service.client.get("/health")).json() == {"live": True, "ready": True}


async def test_predict_path(serve: Serve) -> None:
    async with serve(Doubler(), predict_path="/score") as service:
        assert outputs(await service.client.post("/score", json=rows(1))) == [2]


async def test_cors_origins(serve: Serve) -> None:
    async with serve(Doubler(), cors_origins=PAGE["origin"]) as service:
        answer = await service.client.get("/v2", headers=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE["origin"]


async def test_cors_credentials(serve: Serve) -> None:
    for allowed, header in ((True, "true"), (False, None)):
        changed = {"cors_origins": PAGE["origin"], "cors_credentials": allowed}
        async with serve(Doubler(), **changed) as service:
            answer = await service.client.get("/v2", headers=PAGE)
        assert answer.headers.get("access-control-allow-credentials") == header


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that gives what a warning looks like, with the settings of a test."""

    def write(level: int = logging.WARNING, **changed: Any) -> str:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        monkeypatch.setattr(sys, "stdout", output := io.StringIO())
        before = logging.getLogger().level
        configure_logging(Settings(**changed))
        logging.getLogger("service").log(level, "attention")
        logging.getLogger().setLevel(before)
        return output.getvalue()

    return write


def test_log_level(written: Callable[..., str]) -> None:
    levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]
    for first, name in enumerate(("debug", "info", "warning", "error")):
        logged = [bool(written(level, log_level=name)) for level in levels]
        assert logged == [False] * first + [True] * (4 - first)


def test_log_format(written: Callable[..., str]) -> None:
    assert json.loads(written(log_format="json"))["message"] == "attention"
    assert written(log_format="console").endswith("WARNING service: attention\n")


async def accesses(serve: Serve, caplog: pytest.LogCaptureFixture, **changed: Any) -> list[str]:
    """Return what is logged of a request that succeeds and of one that fails."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    model = Doubler()
    async with serve(model, **changed) as service:
        await ask(service, 1)
        await ask(service, model.poison)
    messages = [record.getMessage() for record in caplog.records if record.name == "service.front"]
    return [message.rpartition(" ")[2] for message in messages]


async def test_access_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    assert await accesses(serve, caplog, access_log="all") == ["200", "500"]
    assert await accesses(serve, caplog, access_log="problems") == ["500"]
    assert await accesses(serve, caplog, access_log="off") == []


async def test_slow_request(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    assert await accesses(serve, caplog, slow_request=0) == ["200", "500"]
    assert await accesses(serve, caplog, slow_request=1000) == ["500"]


async def test_model_dir(start: Start, folder: Path, failures: list[str]) -> None:
    async with start(folder, Doubler()) as service:
        await until(lambda: service.engine.ready)
    async with start(folder / "nowhere", Doubler()):
        await until(lambda: bool(failures))
    assert "nowhere" in failures[0]


class Recorder(FakeRuntime):
    """A runtime that notes how it loads."""

    def __init__(self, model: Doubler) -> None:
        super().__init__(model)
        self.seen: dict[str, object] = {}

    def load(self, artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
        self.seen = {"threads": threads, "device": device}
        return super().load(artifact, manifest, threads=threads, device=device)


async def loaded(folder: Path, **changed: Any) -> dict[str, object]:
    runtime = Recorder(Doubler())
    engine = Engine(Settings(model_dir=folder, **changed), runtime)
    await engine.start()
    await engine.close()
    return runtime.seen


async def test_device(folder: Path) -> None:
    assert (await loaded(folder, device="abacus:1"))["device"] == "abacus:1"


async def test_threads(folder: Path) -> None:
    assert (await loaded(folder, threads=7))["threads"] == 7


async def test_warmup(start: Start, folder: Path) -> None:
    largest = {}
    for warmup in (True, False):
        model = Doubler()
        async with start(folder, model, warmup=warmup, max_batch_size=32) as service:
            await until(lambda: service.engine.ready)
        largest[warmup] = max(model.batches)
    assert largest[True] == 32
    assert largest[False] < 32


async def test_request_timeout(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, request_timeout=0.2) as service:
        model.gate.clear()
        answer = await ask(service, 1)
        with anyio.fail_after(5), pytest.raises(DeadlineExceeded):
            await service.engine.infer({"x": np.ones((1, 2), np.float32)})
        model.gate.set()
    assert answer.status_code == 504


async def test_run_timeout(serve: Serve, failures: list[str]) -> None:
    model = Doubler()
    async with serve(model, request_timeout=0.1, run_timeout=0.2) as service:
        model.gate.clear()
        await ask(service, 1)
        await until(lambda: bool(failures), 5)
        model.gate.set()
    assert "hangs" in failures[0]


async def test_max_batch_size(serve: Serve) -> None:
    model = Doubler()
    async with serve(model, max_batch_size=3, warmup=False) as service:
        assert service.engine.max_batch_size == 3
        await ask(service, *range(20, 28))
    assert model.batches == [3, 3, 2]


@pytest.mark.parametrize(("seconds", "chosen"), [(0.05, 1), (0.15, 2), (1.0, 4)])
def test_largest_batch_keeps_the_latency(seconds: float, chosen: int) -> None:
    engine = Engine(Settings(max_batch_latency=seconds), FakeRuntime(Doubler()))
    assert engine._largest_batch(Verdict(True, "", {1: 0.1, 2: 0.11, 4: 0.2})) == chosen


async def test_max_batch_latency(start: Start, folder: Path) -> None:
    class Slow(Doubler):
        """Takes longer for few rows than for many, so that large batches pay."""

        def run(self, batch: Tensors) -> Tensors:
            time.sleep(0.05 if len(batch["x"]) <= 2 else 0.002)
            return super().run(batch)

    largest = []
    for seconds in (0.005, 60):
        model = Slow()
        async with start(folder, model, max_batch_size=0, max_batch_latency=seconds) as service:
            await until(lambda: service.engine.ready)
            largest.append(service.engine.max_batch_size)
        assert max(model.batches) >= largest[-1]
    assert largest[0] == 1
    assert largest[1] > 1


async def test_max_batch_delay(serve: Serve) -> None:
    """The second request comes when the first would have run already."""
    for delay, batches in ((0.5, [2]), (0, [1, 1])):
        model = Doubler()
        async with serve(model, max_batch_delay=delay, warmup=False) as service:
            first = asyncio.create_task(ask(service, 1))
            await until(lambda: service.engine.pending_rows == 1 or first.done())  # noqa: B023
            await asyncio.sleep(0.05)
            assert first.done() is (delay == 0)
            second = await ask(service, 2)
            assert [outputs(await first), outputs(second)] == [[2], [4]]
        assert model.batches == batches


async def test_max_queue_size(serve: Serve) -> None:
    await assert_full(serve, max_queue_size=2)


async def test_max_queue_bytes(serve: Serve) -> None:
    await assert_full(serve, max_queue_bytes=16)


async def assert_full(serve: Serve, **changed: int) -> None:
    """Check that the queue takes two rows of eight bytes each, and a third only by default."""
    for limits, status in ((changed, 503), ({}, 200)):
        model = Doubler()
        async with serve(model, max_batch_size=1, **limits) as service:
            tasks = await held(service, model, 2)
            surplus = asyncio.create_task(ask(service, 9))
            await until(lambda: surplus.done() or service.engine.pending_rows == 4)  # noqa: B023
            model.gate.set()
            assert (await surplus).status_code == status
            await asyncio.gather(*tasks)


BODY = json.dumps(rows(1, 2, 3)).encode()


async def status(service: Service, body: bytes, path: str = INFER) -> int:
    headers = {"content-type": "application/json"}
    return (await service.client.post(path, content=body, headers=headers)).status_code


async def around(
    serve: Serve, setting: str, limit: int, body: bytes, path: str = INFER, **changed: Any
) -> list[int]:
    """Return how a body is answered with a limit that it just meets, and with one less."""
    found = []
    for value in (limit, limit - 1):
        settings = {**ALL_ENDPOINTS, **changed, setting: value}
        async with serve(Doubler(), **settings) as service:
            found.append(await status(service, body, path))
    return found


async def test_max_body_bytes(serve: Serve) -> None:
    assert await around(serve, "max_body_bytes", len(BODY), BODY) == [200, 413]


async def test_max_total_body_bytes(serve: Serve) -> None:
    async with serve(Doubler(), max_body_bytes=1000, max_total_body_bytes=1000) as service:
        service.app._bodies._held += 995  # what requests hold that are being read
        assert await status(service, BODY) == 503
        service.app._bodies._held -= 995
        assert await status(service, BODY) == 200


async def test_max_json_bytes(serve: Serve) -> None:
    assert await around(serve, "max_json_bytes", len(BODY), BODY) == [200, 413]


async def test_max_values(serve: Serve) -> None:
    values = sum(map(BODY.count, (b",", b"[", b"{"))) + 9 * BODY.count(b":")
    assert await around(serve, "max_values", values, BODY) == [200, 413]
    model = Doubler((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))
    count = 1000
    text = b"\1\0\0\0a" * count
    tensor = {"name": "x", "shape": [count], "datatype": "BYTES"}
    document = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(text)}}]}
    header = json.dumps(document).encode()
    answers = []
    for limit in (count, count - 1):
        async with serve(model, max_values=limit) as service:
            answers.append(
                await service.client.post(
                    INFER, content=header + text, headers={LENGTH: str(len(header))}
                )
            )
    assert [answer.status_code for answer in answers] == [200, 413]


def of(count: int, name: str) -> bytes:
    """Return a request with so many unknown inputs or outputs."""
    document = rows(1)
    entries = [{"name": f"z{number}"} for number in range(count)]
    tensors = [{**document["inputs"][0], **entry} for entry in entries]
    return json.dumps({**document, name: tensors if name == "inputs" else entries}).encode()


async def refusals(serve: Serve, setting: str, limit: int, body: bytes) -> list[str]:
    found = []
    for value in (limit, limit - 1):
        async with serve(Doubler(), **{setting: value}) as service:
            answer: httpx.Response = await service.client.post(INFER, content=body)
        assert answer.status_code == 400
        found.append(answer.json()["error"])
    return found


async def test_max_tensors(serve: Serve) -> None:
    fitting, surplus = await refusals(serve, "max_tensors", 3, of(3, "inputs"))
    assert "no input" in fitting
    assert re.search("more than 2 entries", surplus)


async def test_max_outputs(serve: Serve) -> None:
    fitting, surplus = await refusals(serve, "max_outputs", 3, of(3, "outputs"))
    assert "no output" in fitting
    assert re.search("more than 2 entries", surplus)


async def test_max_elements(serve: Serve) -> None:
    assert await around(serve, "max_elements", 6, BODY) == [200, 400]
