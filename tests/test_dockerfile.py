"""What can be said of the emitted Dockerfile and health check without building an image."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench
from service.ops.settings import load_settings

ONE_PER_RUNTIME = {variant.runtime: variant for variant in ALL_VARIANTS}
HEALTH_CHECK_MODULES = 80
"""Of about 40 that every interpreter starts with."""


@pytest.mark.parametrize("variant_", ONE_PER_RUNTIME.values(), ids=ONE_PER_RUNTIME)
def test_hadolint_finds_nothing(variant_: Variant, bench: Workbench) -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    bench.run([hadolint, "--no-color", "Dockerfile"], bench.project(variant_), timeout=60)


def test_the_health_check_imports_little(bench: Workbench) -> None:
    """It runs every few seconds, beside the service."""
    project = bench.project(ALL_VARIANTS[0])
    script = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_path('healthcheck.py', run_name='__main__')\n"
        "finally:\n"
        "    print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        cwd=project,
        env={"SERVICE_PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    modules = set(done.stdout.split())
    assert "refused" in done.stderr
    assert "socket" in modules
    assert not {"encodings.idna", "http", "service", "site", "ssl", "urllib"} & modules
    assert len(modules) <= HEALTH_CHECK_MODULES


@pytest.mark.parametrize(
    ("given", "port"),
    [(None, 8000), ("9000", 9000), ("tcp://10.0.0.11:80", 8000)],
    ids=["not set", "a port", "the address that Kubernetes sets"],
)
def test_the_health_check_asks_the_port_of_the_service(
    given: str | None, port: int, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = bench.project(ALL_VARIANTS[0])
    monkeypatch.chdir(project)
    monkeypatch.delenv("SERVICE_PORT", raising=False)
    if given is not None:
        monkeypatch.setenv("SERVICE_PORT", given)
    assert load_settings().port == port
    assert runpy.run_path("healthcheck.py")["PORT"] == port


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ([], 0, " tests: no Docker engine answers"),
        (["--require-images"], 1, "Failed: no Docker engine answers"),
    ],
    ids=["left out", "required"],
)
def test_without_an_engine_images_are_left_out_and_that_is_said(
    options: list[str], code: int, told: str
) -> None:
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *options,
            "tests/test_images.py",
        ],
        cwd=template_root(),
        env={**inherited, "DOCKER": "/nonexistent/docker"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in done.stdout
    assert done.returncode == code
