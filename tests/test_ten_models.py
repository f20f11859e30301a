"""The ten models of benchmarks/ten_models/, by inferplate: the owner's files alone, no others."""

import hashlib
import json
import runpy
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.source import template_root
from inferplate.wire import alike, post_json
from inferplate.workbench import Workbench

TEN = template_root() / "benchmarks/ten_models"
MODELS: dict[str, Any] = tomllib.loads((TEN / "models.toml").read_text(encoding="utf-8"))
COUNT = runpy.run_path(str(TEN / "count.py"))
OTHERS = [tool for tool in COUNT["TITLES"] if tool != "inferplate"]
WRITTEN = {"src/service/predict.py", "tests/golden.json", "tests/test_model.py"}
"""Seeded files, which are the owner's: the command writes them too."""
SETTINGS = {"SERVICE_THREADS": "1", "KERAS_BACKEND": "torch"}


def fingerprints(project: Path) -> dict[str, str]:
    """Return the sha256 of each file that is not made by running something."""
    return {
        path.relative_to(project).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in project.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_page_has_the_table_of_todays_files() -> None:
    page = COUNT["PAGE"].read_text(encoding="utf-8")
    assert COUNT["START"] in page
    assert page == COUNT["with_table"](page), "run benchmarks/ten_models/count.py"


@pytest.mark.parametrize("name", MODELS)
def test_it_takes_no_more_lines_than_bentoml(name: str) -> None:
    files, lines = COUNT["counted"](name, "inferplate")
    others = {tool: COUNT["counted"](name, tool) for tool in OTHERS}
    assert all(least > 0 for _, least in others.values())
    assert files <= others["bentoml"][0]
    assert lines <= others["bentoml"][1]


def test_lines_of_code_count_and_others_do_not(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        '"""About."""\n\n# why\nx = 1  # how\n\n\ndef f(\n    a,\n):\n    """Do.\n\n    So."""\n'
        '    return """\n    text"""\n'
    )
    assert COUNT["lines_of"](code) == 6
    settings = tmp_path / "settings.json"
    settings.write_text('{\n  "a": 1\n\n}\n')
    assert COUNT["lines_of"](settings) == 3


@pytest.mark.parametrize("tool", OTHERS)
def test_requirements_are_pinned(tool: str) -> None:
    text = (TEN / "requirements" / f"{tool}.txt").read_text(encoding="utf-8")
    assert all("==" in line for line in text.splitlines())


@pytest.fixture
def project(bench: Workbench, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a test a service of its own without a model."""
    variant = Variant("fastapi", MODELS[request.getfixturevalue("name")]["runtime"], "uvicorn")
    copy = tmp_path / "project"
    shutil.copytree(bench.project(variant), copy)
    shutil.rmtree(copy / "models", ignore_errors=True)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_answers_as_the_library_and_no_file_of_the_template_is_edited(
    name: str, project: Path, bench: Workbench
) -> None:
    emitted = fingerprints(project)
    bench.run([bench.python, str(TEN / name / "make.py")], project, timeout=120, settings=SETTINGS)
    expected = json.loads((project / "expected.json").read_bytes())
    made = fingerprints(project).keys() - emitted.keys()
    own = {path.name for path in (TEN / name).glob("inferplate/*")}
    for file in own:
        shutil.copy(TEN / name / "inferplate" / file, project / "src/service")
    model = MODELS[name]
    command = ["manifest", model["artifact"], "--name", "own", "--version", "1", *model["options"]]
    bench.run([bench.python, "-m", "service", *command], project, timeout=120, settings=SETTINGS)
    with Service(project, bench.python, SETTINGS) as service:
        service.wait_ready()
        answer = post_json(service.port, "/predict", {"instances": expected["instances"]})
        assert answer.status == 200, answer.body
    found = answer.json()["predictions"]
    assert len(found) == len(expected["predictions"])
    for one, right in zip(found, expected["predictions"], strict=True):
        assert alike({key: one[key] for key in right}, right, 1e-4)
    after = fingerprints(project)
    changed = {path for path in after if after[path] != emitted.get(path)} - made
    owned = {f"src/service/{file}" for file in own} | {"models/manifest.json", "service.log"}
    if "--write-predict" in model["options"]:
        owned |= WRITTEN
    assert changed <= owned
    assert emitted.keys() <= after.keys()
