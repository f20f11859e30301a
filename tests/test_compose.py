"""The compose file and the container fit each other: ports, address, grace and health check."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ALL_VARIANTS

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench
from service.ops.process import EXIT_MARGIN
from service.ops.settings import Settings

RUNTIMES = [
    variant
    for variant in ALL_VARIANTS
    if (variant.framework, variant.server) == ("fastapi", "uvicorn")
]


@pytest.fixture(params=RUNTIMES, ids=lambda variant: variant.runtime)
def project(request: pytest.FixtureRequest, bench: Workbench) -> Path:
    variant: Variant = request.param
    return bench.project(variant)


@pytest.fixture
def service(project: Path) -> dict[str, Any]:
    document = yaml.safe_load((project / "compose.yaml").read_bytes())
    found: dict[str, Any] = document["services"]["service"]
    return found


def test_the_port_leads_to_the_service_and_is_open_on_this_machine_only(
    service: dict[str, Any],
) -> None:
    (published,) = service["ports"]
    address, _, inside = published.split(":")
    assert address == "127.0.0.1"
    assert inside == service["environment"]["SERVICE_PORT"]
    assert service["environment"]["SERVICE_HOST"] == "0.0.0.0"  # noqa: S104 - of the container


def test_the_grace_is_longer_than_the_drain(service: dict[str, Any]) -> None:
    settings = Settings()
    drain = settings.drain_delay + settings.graceful_timeout + 2 * EXIT_MARGIN
    assert float(service["stop_grace_period"].removesuffix("s")) > drain


def test_the_health_check_is_the_script_of_the_image(
    service: dict[str, Any], project: Path
) -> None:
    check = service["healthcheck"]["test"]
    assert check == ["CMD", "python", "-I", "-S", "healthcheck.py"]
    assert (project / check[-1]).is_file()
    dockerfile = (project / "Dockerfile").read_text(encoding="utf-8")
    assert f"CMD {json.dumps(check[1:])}" in dockerfile


def test_settings_come_from_the_file_that_the_readme_names(service: dict[str, Any]) -> None:
    assert service["env_file"] == [{"path": ".env", "required": False}]
    assert service["restart"] == "unless-stopped"
