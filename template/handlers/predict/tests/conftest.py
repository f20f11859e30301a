"""Fixtures for all tests. This file belongs to the template."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from managed.importing import DEVICE, import_main, isolate
from managed.support import running, until_ready
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.ops import process
from service.ops.settings import ENV_FILE, PREFIX, Settings

PROJECT = Path(__file__).parents[1]


class Endpoint(BaseSettings):
    """Whether the service has /predict, by its environment or the .env file of the project."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=PROJECT / ENV_FILE, extra="ignore"
    )

    predict_endpoint: bool = True


PREDICT_ENDPOINT = Endpoint().predict_endpoint


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
def predict_endpoint() -> None:
    """Skip the test if the service has no /predict."""
    if not PREDICT_ENDPOINT:
        pytest.skip("SERVICE_PREDICT_ENDPOINT is false")


@pytest.fixture
async def client(failures: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Ask the service with your model, your schema and your routes."""
    settings = Settings(
        model_dir=PROJECT / "models", predict_endpoint=PREDICT_ENDPOINT, device=DEVICE
    )
    app = import_main().create_app(settings)
    async with running(app) as service:
        await until_ready(service, failures)
        yield service.client
