"""What the tests share: a model, a runtime that has it, and a running service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
from asgi_lifespan import LifespanManager

from service.core import manifest
from service.core.engine import Engine
from service.core.manifest import Manifest
from service.core.tensors import Signature, Tensors, TensorSpec
from service.interfaces import Model
from service.web.front import Front

INFER = "/v2/models/doubler/infer"
ONE_ROW_A_BATCH = {"max_batch_size": 1}

_START_LIMIT = 60
"""Seconds that a real model may take to load."""

_UNDESCRIBED = Signature((), ())


@dataclass
class Doubler:
    """A model that doubles its rows, and does what a test needs besides.

    ``gate`` holds it back while cleared; it raises on a row that begins with ``poison``;
    ``batches`` are the numbers of rows that it ran, of those that `serve` runs after the start.
    """

    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", "FP32", (-1, 2)),)
    signature: Signature = _UNDESCRIBED
    poison: float = 13.0
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, batch: Tensors) -> Tensors:
        (x,) = batch.values()
        self.batches.append(len(x))
        if not self.gate.wait(timeout=20):
            raise TimeoutError("no test opened the gate")
        if (x == self.poison).any():
            raise ValueError("a secret that must not leave the service")
        return {self.outputs[0].name: x + x}


@dataclass
class FakeRuntime:
    """A runtime with one model, whatever the artifact is."""

    model: Model
    RUNTIME: str = "test"

    def inspect(self, artifact: Path, parameters: dict[str, Any]) -> Signature:
        return self.model.signature

    def load(self, artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
        return self.model


def write_model(folder: Path, model: Doubler, **described: Any) -> Path:
    """Write an artifact with its manifest, and return the folder.

    ``described``: what the manifest says besides.
    """
    folder.mkdir(exist_ok=True)
    artifact = folder / "doubler.bin"
    artifact.write_bytes(b"twice")
    manifest.describe(
        artifact,
        name="doubler",
        version="1",
        runtime=FakeRuntime.RUNTIME,
        inputs=model.inputs,
        outputs=model.outputs,
        **described,
    ).write(folder)
    return folder


@dataclass
class Service:
    """A running service: its application, its engine and a client to ask it."""

    app: Front
    engine: Engine
    client: httpx.AsyncClient


@asynccontextmanager
async def running(app: Front) -> AsyncIterator[Service]:
    """Run an application, through ASGI."""
    async with (
        LifespanManager(app, startup_timeout=_START_LIMIT, shutdown_timeout=_START_LIMIT),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://service"
        ) as client,
    ):
        yield Service(app, app.engine, client)


async def until(condition: Callable[[], bool], limit: float = 10) -> None:
    """Wait until something is so. ``limit`` in seconds."""
    with anyio.fail_after(limit):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def until_ready(service: Service, failures: list[str]) -> None:
    """Wait until the model is loaded, or fail with the reason why it is not."""
    await until(lambda: service.engine.ready or bool(failures), _START_LIMIT)
    assert not failures


def rows(*values: float, **changed: Any) -> dict[str, Any]:
    """Make a request of the protocol, with one row for each value."""
    data = [value for value in values for _ in range(2)]
    tensor = {"name": "x", "shape": [len(values), 2], "datatype": "FP32", "data": data}
    return {"inputs": [tensor], **changed}


async def ask(service: Service, *values: float, **changed: Any) -> httpx.Response:
    return await service.client.post(INFER, json=rows(*values, **changed))


async def held(
    service: Service, model: Doubler, count: int
) -> list["asyncio.Task[httpx.Response]"]:
    """Hold the model on a first request and queue others behind it, with rows 1, 2, 3, …"""
    model.gate.clear()
    model.batches.clear()
    first = asyncio.create_task(ask(service, 100))
    await until(lambda: model.batches == [1])
    waiting = [asyncio.create_task(ask(service, value)) for value in range(1, count + 1)]
    await until(lambda: service.engine.pending_rows == 1 + count)
    return [first, *waiting]


def outputs(answer: httpx.Response) -> list[float]:
    """Return one value of each row of an answer, which must be a success."""
    assert answer.status_code == 200, answer.text
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data[::2]
