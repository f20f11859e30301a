"""Managed clouds: a service started as each of them does, by the lines of docs/clouds.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

PAGE = template_root() / "docs/clouds.md"


class Cloud(NamedTuple):
    """How a cloud starts a container, and which paths it asks.

    ``port``: the variable with the port. ``probe`` and ``predict``: paths; ``parameters``: whether
    it may send them.
    """

    server: str
    port: str
    environment: dict[str, str]
    arguments: tuple[str, ...] = ()
    probe: str = "/v2/health/ready"
    predict: str = "/predict"
    parameters: bool = False


VERTEX = "/v1/endpoints/7/deployedModels/9"
PLATFORM_PORT = Cloud("hypercorn", "PORT", {})
CLOUDS = {
    "Amazon SageMaker": Cloud(
        *("granian", "SAGEMAKER_BIND_TO_PORT", {"SERVICE_WORKERS": "2"}, ("serve",)),
        *("/ping", "/invocations", True),
    ),
    "Vertex AI": Cloud(
        "uvicorn",
        "AIP_HTTP_PORT",
        {
            "AIP_HEALTH_ROUTE": VERTEX,
            "AIP_PREDICT_ROUTE": f"{VERTEX}:predict",
            "AIP_STORAGE_URI": "gs://bucket/model",
        },
        (),
        VERTEX,
        f"{VERTEX}:predict",
        True,
    ),
    "Azure ML": Cloud("gunicorn", "SERVICE_PORT", {"AZUREML_MODEL_DIR": "registered/1"}),
    "Cloud Run": PLATFORM_PORT,
    "Heroku": PLATFORM_PORT,
    "Knative": PLATFORM_PORT,
    "Hugging Face": Cloud(
        "gunicorn",
        "SERVICE_PORT",
        {"SERVICE_HEALTH_PATH": "/health", "SERVICE_MODEL_DIR": "registered/1/models"},
        (),
        "/health",
    ),
}
STARTED = {name: cloud for name, cloud in CLOUDS.items() if name not in ("Heroku", "Knative")}
"""Those two start a service as Cloud Run does."""


def test_page_has_a_line_for_each() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z][^|]+?) +\| (.+) \|$", text, re.MULTILINE))
    assert rows.keys() == CLOUDS.keys()
    for name, cloud in CLOUDS.items():
        words = {cloud.port, cloud.probe, cloud.predict, *cloud.environment, *cloud.arguments}
        own = {"SERVICE_PORT", "SERVICE_WORKERS", "/v2/health/ready", "/predict"}
        told = {word for word in words - own if not word.startswith(VERTEX)}
        assert all(f"`{word}" in rows[name] for word in told), name


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTED)
def test_service_is_asked_as_the_cloud_does(
    name: str, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    cloud = STARTED[name]
    variant = next(variant for variant in SERVER_VARIANTS if variant.server == cloud.server)
    covers("a container in a managed cloud", name, len(STARTED))
    project = copy_of(variant)
    golden = Golden.of(project)
    if "registered/1" in " ".join(cloud.environment.values()):
        (project / "registered/1").mkdir(parents=True)
        (project / "models").rename(project / "registered/1/models")
    with Service(
        project,
        bench.python,
        cloud.environment,
        arguments=cloud.arguments,
        port_variable=cloud.port,
    ) as service:
        service.wait_ready()
        assert ask(service.port, "GET", cloud.probe).status == 200
        body = {**golden.typed_request, **({"parameters": {"top": 3}} if cloud.parameters else {})}
        answer = post_json(service.port, cloud.predict, body)
        assert answer.status == 200, answer.body
        plain = post_json(service.port, "/predict", golden.typed_request)
        assert answer.json()["predictions"] == plain.json()["predictions"]
        service.terminate()
        service.wait_exit()
    log = service.log.read_text(encoding="utf-8")
    assert ("the platform says" in log) is (name != "Hugging Face")
