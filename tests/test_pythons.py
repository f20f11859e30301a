"""Each Python that the template offers runs an emitted service, where that Python is at hand."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import COVERING_VARIANTS, Covers
from test_dependencies import install

from inferplate.template.questions import read_questions
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate_tools.verify.server import check_running
from inferplate_tools.workbench import Workbench

PYTHONS = [str(version) for version in read_questions(template_root())["python_version"]["choices"]]
SMALL = [
    variant for variant in COVERING_VARIANTS if variant.runtime not in {"pytorch", "transformers"}
]
VARIANTS = dict(zip(PYTHONS, SMALL, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_service_on_this_python(
    version: str,
    bench: Workbench,
    tmp_path: Path,
    covers: Covers,
    pytestconfig: pytest.Config,
) -> None:
    covers("a service on each Python: installed, tested, typed, served", version, len(PYTHONS))
    interpreter = find(version)
    if interpreter is None:
        assert not pytestconfig.getoption("--require-pythons")
        pytest.skip(f"there is no Python {version}")
    variant = VARIANTS[version]
    project = tmp_path / variant.name
    render(bench.template(), project, {**variant.answers(), "python_version": version})
    python = str(install(project, interpreter))
    alone = Workbench(tmp_path, python)
    alone.run([python, "train.py"], project, timeout=600)
    alone.run([python, "-m", "pytest", "-q"], project, timeout=300)
    alone.run([python, "-m", "mypy"], project, timeout=300)
    check_running(project, python, workers=1)


def find(version: str) -> str | None:
    """Return an interpreter of a version, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    candidates = [on_path] if on_path else []
    candidates += map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))
    for candidate in candidates:
        command = [candidate, "-c", "import platform; print(platform.python_version())"]
        found = subprocess.run(command, capture_output=True, check=False, text=True)
        if found.stdout.startswith(f"{version}."):
            return candidate
    return None
