"""What a variant's own pyproject.toml asks for is enough to test it and to serve it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COVERING_VARIANTS, Covers

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.verify.server import check_running
from inferplate_tools.workbench import Workbench

TORCH = "torch==2.13.0"
WHOLE = {each.framework: each for each in COVERING_VARIANTS}.values()
"""One of each framework runs its whole suite, the others what depends on the runtime."""


@pytest.mark.slow
@pytest.mark.parametrize("alone", COVERING_VARIANTS, ids=str)
def test_alone_in_a_fresh_environment(
    alone: Variant, bench: Workbench, tmp_path: Path, covers: Covers
) -> None:
    covers("an environment of its own: installed, tested, served", alone, len(COVERING_VARIANTS))
    project = tmp_path / alone.name
    render(bench.template(), project, alone.answers())
    python = str(install(project))
    environment_of_its_own = Workbench(tmp_path, python)
    environment_of_its_own.run([python, "train.py"], project, timeout=600)
    tests = ["tests"] if alone in WHOLE else ["--ignore", "tests/managed"]
    environment_of_its_own.run([python, "-m", "pytest", "-q", *tests], project, timeout=300)
    environment_of_its_own.run([python, "-m", "mypy"], project, timeout=300)
    check_running(project, python, workers=1)


def install(project: Path, interpreter: str = sys.executable) -> Path:
    """Install a project's dependencies, and those of its groups, and nothing else."""
    uv(project, "venv", "--python", interpreter)
    python = project / ".venv/bin/python"
    groups = ["--group", "dev", "--group", "train"]
    requirements = ["--requirements", "pyproject.toml", *groups, *torch_from_elsewhere(project)]
    uv(project, "pip", "install", "--python", str(python), *requirements)
    return python


def torch_from_elsewhere(project: Path) -> list[str]:
    """Take PyTorch from where pip was told to look, if it was, instead of from its own index."""
    find_links = os.environ.get("PIP_FIND_LINKS")
    if not find_links:
        return []
    override = project / "torch.txt"
    override.write_text(f"{TORCH}\n", encoding="utf-8")
    return ["--no-sources", "--find-links", find_links, "--overrides", override.name]


def uv(project: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
