"""Fixtures: the service around a model made for a test."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import httpx
import pytest

import service as package
from managed.endpoints import ALL_ENDPOINTS, FOR_ANY_MODEL
from managed.importing import Shell, import_with_stand_ins, isolate
from managed.support import Doubler, FakeRuntime, Service, running, until_ready, write_model
from service.core.tensors import Signature, TensorSpec
from service.core.warmup import DEFAULT_MAX_BATCH_SIZE
from service.ops.settings import Settings

Call = Callable[..., tuple[int, str]]
Describe = Callable[..., tuple[int, str, Path]]

DESCRIBED = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
_DEFAULTS = {**FOR_ANY_MODEL, "max_batch_size": DEFAULT_MAX_BATCH_SIZE}


class Start(Protocol):
    """Runs the service on a model folder, with the settings of a test; it may not be ready.

    Without a batch size among them it is the largest, not one that depends on how fast this
    machine happens to be.
    """

    def __call__(
        self, folder: Path, model: Doubler, **changed: Any
    ) -> AbstractAsyncContextManager[Service]: ...


class Serve(Protocol):
    """Runs the service around a `Doubler`, with the settings of a test; it is ready."""

    def __call__(self, model: Doubler, **changed: Any) -> AbstractAsyncContextManager[Service]: ...


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Import the service with stand-ins for your modules, once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("empty"))
        return import_with_stand_ins()


@pytest.fixture(autouse=True)
def _stand_ins_in_place(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put_into_place(monkeypatch)


@pytest.fixture
def model() -> Doubler:
    return Doubler(signature=DESCRIBED)


@pytest.fixture
def call(
    shell: Shell,
    model: Doubler,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Call the command line; returns its exit code and all it wrote."""
    monkeypatch.setattr(package, "runtime", FakeRuntime(model), raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["service", *arguments])
        try:
            code: int = shell.command_line.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        written = capsys.readouterr()
        return code, written.out + written.err

    return call


@pytest.fixture
def describe(call: Call, model: Doubler, tmp_path: Path) -> Describe:
    """Describe the artifact of a model with a signature; returns exit code, text and manifest."""
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "doubler.bin").write_bytes(b"twice")

    def describe(signature: Signature, *options: str) -> tuple[int, str, Path]:
        model.signature = signature
        names = ("--name", "doubler", "--version", "1")
        return *call("manifest", str(folder / "doubler.bin"), *names, *options), folder

    return describe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the artifact of a `Doubler` with its manifest."""
    return write_model(tmp_path / "doubler", Doubler())


@pytest.fixture
def start(shell: Shell) -> Start:
    @asynccontextmanager
    async def start(folder: Path, model: Doubler, **changed: Any) -> AsyncIterator[Service]:
        settings = Settings(**{**_DEFAULTS, "model_dir": folder, **changed})
        async with running(shell.main.create_app(settings, FakeRuntime(model))) as service:
            yield service

    return start


@pytest.fixture
def serve(start: Start, tmp_path: Path, failures: list[str]) -> Serve:
    @asynccontextmanager
    async def serve(model: Doubler, **changed: Any) -> AsyncIterator[Service]:
        folder = write_model(tmp_path / "doubler", model)
        async with start(folder, model, **changed) as service:
            await until_ready(service, failures)
            model.batches.clear()
            yield service

    return serve


@pytest.fixture
def start_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the command to serve, with a server that returns at once."""

    def start_command(**changed: Any) -> None:
        served: list[Settings] = []
        process = SimpleNamespace(
            prepare=lambda workers: nullcontext(),
            on_stop=lambda *_, **__: None,
            failure=lambda: None,
            draining=lambda: True,
            deaths=lambda: None,
            exit_code=lambda: 0,
        )
        monkeypatch.setattr(shell.command_line, "process", process)
        monkeypatch.setattr(shell.command_line, "configure_logging", lambda settings: None)
        monkeypatch.setattr(shell.command_line.manifest, "read", lambda folder: None)
        monkeypatch.setattr(shell.command_line.manifest, "locate", lambda *_: None)
        monkeypatch.setattr(package, "server", SimpleNamespace(serve=served.append), raising=False)
        assert shell.command_line._serve(Settings(**changed)) == 0
        assert len(served) == 1

    return start_command


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the service around a `Doubler`, with all endpoints."""
    async with serve(Doubler(), **ALL_ENDPOINTS) as service:
        yield service.client
