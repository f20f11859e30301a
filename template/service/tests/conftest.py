"""Fixtures for all tests. This file belongs to the template."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from managed.support import import_main, running, until_ready

from service.ops import process
from service.ops.settings import PREFIX, Settings

PROJECT = Path(__file__).parents[1]


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
async def client(failures: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the service with your model, your schema and your routes."""
    app = import_main().create_app(Settings(model_dir=PROJECT / "models"))
    async with running(app) as service:
        await until_ready(service, failures)
        yield service.client
