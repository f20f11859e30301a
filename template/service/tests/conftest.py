"""Fixtures: the service as it is shipped, and the service around a model made for a test."""

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx
import pytest
from asgi_lifespan import LifespanManager

from service import manifest, process
from service.config import PREFIX, Settings
from service.engine import Engine, Model
from service.front import Front
from service.manifest import Manifest
from service.tensors import Tensors, TensorSpec

PROJECT = Path(__file__).parents[1]
START_LIMIT = 60
"""Seconds that a real model may take to load."""


@dataclass
class Doubler:
    """A model that doubles its rows, and does what a test needs besides.

    ``gate`` holds it back while cleared; it raises on a row that begins with ``poison``;
    ``batches`` are the numbers of rows that it ran after warm-up.
    """

    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", "FP32", (-1, 2)),)
    poison: float = 13.0
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, batch: Tensors) -> Tensors:
        (x,) = batch.values()
        if x.any():
            self.batches.append(len(x))
        if not self.gate.wait(timeout=20):
            raise TimeoutError("no test opened the gate")
        if (x == self.poison).any():
            raise ValueError("a secret that must not leave the service")
        return {self.outputs[0].name: x + x}


@dataclass
class Service:
    """A running service: its application, its engine and a client to ask it."""

    app: Front
    engine: Engine
    client: httpx.AsyncClient


async def until(condition: Callable[[], bool], limit: float = 10) -> None:
    """Wait until something is so. ``limit`` in seconds."""
    with anyio.fail_after(limit):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def until_ready(service: Service, failures: list[str]) -> None:
    """Wait until the model is loaded, or fail with the reason why it is not."""
    await until(lambda: service.engine.ready or bool(failures), START_LIMIT)
    assert not failures


class Shipped(Protocol):
    """Runs the service with the model in models/, with the settings of a test."""

    def __call__(self, **changed: Any) -> AbstractAsyncContextManager[Service]: ...


class Serve(Protocol):
    """Runs a service around a `Doubler`, with the settings of a test."""

    def __call__(self, model: Doubler, **changed: Any) -> AbstractAsyncContextManager[Service]: ...


@asynccontextmanager
async def running(engine: Engine, settings: Settings) -> AsyncIterator[Service]:
    """Run the application around an engine, through ASGI."""
    app = Front(settings, engine)
    async with (
        LifespanManager(app, startup_timeout=START_LIMIT, shutdown_timeout=START_LIMIT),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://service"
        ) as client,
    ):
        yield Service(app, engine, client)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's settings and .env file out of the tests."""
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect why the service would end its process."""
    messages: list[str] = []
    monkeypatch.setattr(process, "fail", messages.append)
    return messages


@pytest.fixture
def shipped(failures: list[str]) -> Shipped:
    """Run the service as it is shipped; it is ready when the test gets it."""

    @asynccontextmanager
    async def shipped(**changed: Any) -> AsyncIterator[Service]:
        settings = Settings(**{"model_dir": PROJECT / "models", **changed})
        async with running(Engine(settings), settings) as service:
            await until_ready(service, failures)
            yield service

    return shipped


@pytest.fixture
async def client(shipped: Shipped) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the service as it is shipped."""
    async with shipped() as service:
        yield service.client


def write_model(folder: Path, model: Doubler) -> Path:
    """Write an artifact with its manifest, and return the folder."""
    folder.mkdir(exist_ok=True)
    artifact = folder / "doubler.bin"
    artifact.write_bytes(b"twice")
    manifest.describe(
        artifact,
        name="doubler",
        version="1",
        runtime="test",
        inputs=model.inputs,
        outputs=model.outputs,
    ).write(folder)
    return folder


@pytest.fixture
def serve(tmp_path: Path, failures: list[str]) -> Serve:
    """Run a service around a `Doubler`; it is ready when the test gets it."""

    @asynccontextmanager
    async def serve(model: Doubler, **changed: Any) -> AsyncIterator[Service]:
        folder = write_model(tmp_path / "doubler", model)

        def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
            return model

        settings = Settings(**{"typed_endpoint": False, "model_dir": folder, **changed})
        async with running(Engine(settings, load, "test"), settings) as service:
            await until_ready(service, failures)
            yield service

    return serve
