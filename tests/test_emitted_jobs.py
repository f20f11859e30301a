"""The jobs and targets of an emitted project run what they say, and fail where that fails."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench, project_environment

CHECKS = ['pip install "uv>=0.9"', "make lint", "make test"]
LAX = {"if", "continue-on-error", "allow_failure", "when", "shell"}
"""What lets a job or a step pass, or not run."""
VARIANT = Variant("fastapi", "python", "uvicorn")


@pytest.fixture(scope="module")
def emitted_for(bench: Workbench) -> Callable[[str], Path]:
    return lambda ci: bench.once(
        f"jobs/{ci}", lambda folder: render(bench.template(), folder, {"ci": ci})
    )


def test_github_runs_the_checks_on_every_change(emitted_for: Callable[[str], Path]) -> None:
    workflow = yaml.safe_load((emitted_for("github") / ".github/workflows/ci.yml").read_bytes())
    triggers = workflow[True]  # which is what YAML makes of "on"
    assert triggers == {"push": {"branches": ["main"], "tags": ["v*"]}, "pull_request": None}
    assert workflow["jobs"].keys() == {"test", "image", "publish"}
    *steps, kept = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == CHECKS
    assert kept["uses"].startswith("actions/upload-artifact@")
    assert "cancelled()" in kept.pop("if")  # the results of tests that failed count most
    for job in (workflow["jobs"]["test"], workflow["jobs"]["image"]):
        assert not LAX & job.keys()
        for step in job["steps"]:
            assert not LAX & step.keys()


def test_gitlab_runs_the_checks_on_every_change(emitted_for: Callable[[str], Path]) -> None:
    pipeline: dict[str, Any] = yaml.safe_load(
        (emitted_for("gitlab") / ".gitlab-ci.yml").read_bytes()
    )
    job = pipeline["tests"]
    assert job["before_script"] + job["script"] == CHECKS
    for name in ("tests", "container"):
        assert not LAX & pipeline[name].keys()
        assert pipeline[name]["rules"] == [{"if": '$CI_PIPELINE_SOURCE != "schedule"'}]
    assert pipeline["workflow"]["rules"] == [
        {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'},
        {"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"},
        {"if": "$CI_COMMIT_TAG =~ /^v/"},
    ]


@pytest.fixture
def project(bench: Workbench, tmp_path: Path) -> Path:
    """Emit a project with little in it: one module, and one test in each of two folders."""
    folder = tmp_path / "project"
    shutil.copytree(bench.project(VARIANT), folder)
    for emptied in ("src", "tests", "train.py", "healthcheck.py"):
        path = folder / emptied
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    tests = ("tests/test_model.py", "tests/managed/test_b.py")
    names = ("src/service/__init__.py", "train.py", *tests)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        test = "\n\ndef test_it() -> None:\n    pass\n" if "test_" in name else ""
        (folder / name).write_text(f'"""A module."""\n{test}')
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models/manifest.json").touch()
    return folder


def make(project: Path, target: str, **environment: str) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["make", target, "RUN="],  # noqa: S607
        cwd=project,
        env={
            **project_environment(),
            "PATH": path,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_make_test_runs_every_test(project: Path) -> None:
    code, printed = make(project, "test")
    assert code == 0, printed
    assert "2 passed" in printed


@pytest.mark.parametrize("name", ["tests/test_model.py", "tests/managed/test_b.py"])
def test_make_test_fails_where_a_test_fails(project: Path, name: str) -> None:
    path = project / name
    path.write_text(path.read_text().replace("pass", "raise AssertionError"))
    code, printed = make(project, "test")
    assert code != 0, printed
    assert "1 failed, 1 passed" in printed


def test_the_results_are_kept_as_junit(project: Path, emitted_for: Callable[[str], Path]) -> None:
    github = yaml.safe_load((emitted_for("github") / ".github/workflows/ci.yml").read_bytes())
    gitlab = yaml.safe_load((emitted_for("gitlab") / ".gitlab-ci.yml").read_bytes())
    options = github["jobs"]["test"]["env"]["PYTEST_ADDOPTS"]
    assert gitlab["tests"]["variables"]["PYTEST_ADDOPTS"] == options
    path = project / "tests/test_model.py"
    path.write_text(path.read_text().replace("pass", "raise AssertionError"))
    code, printed = make(project, "test", PYTEST_ADDOPTS=options)
    assert code != 0, printed
    *_, kept = github["jobs"]["test"]["steps"]
    assert gitlab["tests"]["artifacts"] == {
        "when": "always",
        "reports": {"junit": kept["with"]["path"]},
    }
    results = (project / kept["with"]["path"]).read_text(encoding="utf-8")
    assert 'errors="0" failures="1" skipped="0" tests="2"' in results


def test_make_lint_passes_what_is_right(project: Path) -> None:
    code, printed = make(project, "lint")
    assert code == 0, printed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("import os\n", "F401"),
        ("number  =  1\n", "would be reformatted"),
        ('number: int = "1"\n', "Incompatible types"),
        ("\ndef double(number):\n    return number * 2\n", "missing a type annotation"),
    ],
    ids=["lint", "format", "types", "strict"],
)
def test_make_lint_fails_where_something_is_wrong(project: Path, wrong: str, told: str) -> None:
    module = project / "src/service/__init__.py"
    module.write_text(f'"""A module."""\n\n{wrong}')
    code, printed = make(project, "lint")
    assert code != 0, printed
    assert told in printed
