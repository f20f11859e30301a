"""What the emitted projects depend on has wheels for the platforms that the documentation names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COVERING_VARIANTS, FURTHER_TASKS, Covers

from inferplate.template.render import render
from inferplate.template.variants import covering
from inferplate_tools.workbench import Workbench

PLATFORMS = {
    "macOS 14 on Apple silicon": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
    "Linux on ARM": "aarch64-manylinux_2_35",
}
MACOS = "14.0"
RESOLVED = [
    *COVERING_VARIANTS,
    *(each for found in FURTHER_TASKS.values() for each in covering(found)),
]


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_dependency_has_a_wheel(
    platform: str, bench: Workbench, tmp_path: Path, covers: Covers
) -> None:
    """All dependencies are resolved together, which is harder than those of one service."""
    covers(f"wheels of all dependencies for {platform}", platform, len(PLATFORMS))
    requirements = []
    for variant in RESOLVED:
        project = tmp_path / variant.name
        render(bench.template(), project, variant.answers())
        file = str(project / "pyproject.toml")
        requirements += [file, "--group", f"{file}:dev", "--group", f"{file}:train"]
    command = ["pip", "compile", "--quiet", "--python-platform", PLATFORMS[platform]]
    # PyTorch's own index, which the sources of a project name, is not everywhere at hand.
    options = ["--only-binary", ":all:", "--no-sources", "--python-version", "3.12"]
    done = subprocess.run(
        [sys.executable, "-m", "uv", *command, *options, *requirements],
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in (
        "numpy==",
        "pillow==",
        "multipart==",
        "tokenizers==",
        "torch==",
        "uvicorn==",
        "xgboost",
    ):
        assert f"\n{name}" in done.stdout
