"""Fixtures for all tests. This file belongs to the template."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from managed.importing import DEVICE, import_main, isolate
from managed.support import running, until_ready

from service.ops import process
from service.ops.settings import Settings

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture(autouse=True)
def failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect why the service would end its process."""
    messages: list[str] = []
    monkeypatch.setattr(process, "fail", messages.append)
    return messages


@pytest.fixture
async def client(failures: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the service with your model and your routes."""
    app = import_main().create_app(Settings(model_dir=PROJECT / "models", device=DEVICE))
    async with running(app) as service:
        await until_ready(service, failures)
        yield service.client
