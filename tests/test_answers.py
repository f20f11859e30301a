"""Hostile and clumsy answers give a correct project, or one clear line and nothing else."""

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from inferplate.errors import InferplateError
from inferplate.matrix import is_asked, read_questions
from inferplate.render import render
from inferplate.source import template_root
from inferplate.workbench import Workbench

QUESTIONS = read_questions(template_root())
MOST_PROMPTS = 7

NAMES = {
    "quotes": """It's a "quoted" `name`""",
    "backslashes": r"back\slash \n \u0041",
    "emoji": "Iris 🌸 service",
    "accents": "Größenschätzer naïve",
    "yaml": "yes: [no] # & *x !!python/object {}",
    "toml": "'''\"\"\" = [x]",
    "shell": "$(rm -rf x) `id` ${HOME} ; | & > <",
    "markdown": "# [a](javascript:x) <script>alert(1)</script> | x |",
    "percent": "100% %s %(name)s",
    "class": "class",
    "test": "test",
    "service": "service",
    "numpy": "numpy",
    "con": "con",
    "true": "true",
    "null": "null",
    "number": "42",
    "float": "1e3",
    "date": "2026-11-22",
    "leading digit": "3D viewer",
    "traversal": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "jinja": "{{ 7 * 7 }} {% raw %}",
    "jinja code": "{{ ''.__class__.__mro__ }}",
    "comment": "{# comment #}",
    "dashes": "--help",
    "80 characters": "b" * 80,
}
REFUSED = {
    "nothing": "",
    "blanks": "   ",
    "trailing newline": "Iris\n",
    "newline": "Iris\nservice",
    "carriage return": "Iris\rservice",
    "tab": "Iris\tservice",
    "escape": "Iris\x1b[31m",
    "null byte": "Iris\x00",
    "line separator": "Iris\u2028service",
    "bidi override": "Iris\u202eservice",
    "next line": "Iris\x85service",
    "leading blank": " Iris",
    "trailing blank": "Iris ",
    "no letters": "🌸🌸",
    "200 characters": "a" * 200,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_strange_name_gives_a_correct_project(
    name: str, bench: Workbench, tmp_path: Path
) -> None:
    answers = {"project_name": name, "description": name}
    destination = render(bench.template(), tmp_path / "service", answers)
    project = tomllib.loads((destination / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["description"] == name
    recorded = yaml.safe_load((destination / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded["project_name"] == name
    for path in destination.rglob("*.y*ml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))
    written = bench.run([bench.python, "-m", "service", "openapi"], destination, timeout=60)
    assert json.loads(written)["info"]["title"] == name
    bench.run([bench.python, "-m", "ruff", "check", "--no-cache", "."], destination, timeout=60)


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_name_that_cannot_be_is_refused_in_one_line(
    name: str, template: Path, tmp_path: Path
) -> None:
    refuse(template, tmp_path / "service", {"project_name": name})


@pytest.mark.parametrize(
    "answers",
    [
        {"author": "Ada\nLovelace"},
        {"author": "a" * 201},
        {"description": "line\u2029line"},
        {"description": ""},
        {"repository_url": "javascript:alert(1)"},
        {"repository_url": "https://example.org/a\n"},
        {"repository_url": 'https://example.org/"quoted"'},
        {"framework": "FastAPI"},
        {"framework": ""},
        {"runtime": "../python"},
        {"server": "uvicorn\n"},
        {"ci": "jenkins"},
        {"python_version": "2.7"},
        {"licence": "../../LICENSE"},
    ],
    ids=str,
)
def test_other_answers_that_cannot_be_are_refused_in_one_line(
    answers: dict[str, Any], template: Path, tmp_path: Path
) -> None:
    refuse(template, tmp_path / "service", answers)


def refuse(template: Path, destination: Path, answers: dict[str, Any]) -> None:
    with pytest.raises(InferplateError) as caught:
        render(template, destination, answers)
    message = str(caught.value)
    assert "\n" not in message
    assert next(iter(answers)) in message
    assert len(message) < 300
    assert not destination.exists()


@pytest.mark.parametrize(
    "answers",
    [
        {"author": 'Ada "Countess" Lovelace <ada@example.org>'},
        {"description": 'Says "no" — in {{ jinja }} and \\ back'},
        {"repository_url": "https://example.org/team/iris-service"},
        {"repository_url": "http://localhost:3000/a/b.git"},
        {"deploy": []},
        {"ci": "none", "deploy": []},
        {"ci": "gitlab"},
        {"licence": "Apache-2.0"},
        {"python_version": "3.14"},
    ],
    ids=str,
)
def test_every_other_answer_gives_a_correct_project(
    answers: dict[str, Any], bench: Workbench, tmp_path: Path
) -> None:
    destination = render(bench.template(), tmp_path / "service", answers)
    recorded = yaml.safe_load((destination / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert answers.items() <= recorded.items()
    project = tomllib.loads((destination / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "author" in answers:
        assert project["authors"] == [{"name": answers["author"]}]
    if "repository_url" in answers:
        assert answers["repository_url"] in project["urls"].values()
    assert (destination / ".github").exists() == (answers.get("ci", "github") == "github")
    assert (destination / ".gitlab-ci.yml").exists() == (answers.get("ci") == "gitlab")
    assert (destination / "compose.yaml").exists() == (
        "compose" in answers.get("deploy", "compose")
    )


def test_at_most_seven_prompts(template: Path, tmp_path: Path) -> None:
    """Press Enter seven times and close the keyboard: an eighth prompt would fail."""
    destination = tmp_path / "service"
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        keyboard.send_text("\r" * MOST_PROMPTS)
        keyboard.close()
        copier.run_copy(
            str(template), destination, settings=copier.Settings(), quiet=True, defaults=False
        )
    assert (destination / "pyproject.toml").exists()


def test_the_prompts_are_the_documented_ones_and_the_rest_is_advanced() -> None:
    asked = [
        name
        for name, question in QUESTIONS.items()
        if question.get("ask", True) is not False and is_asked(question, {})
    ]
    assert asked == ["project_name", "framework", "runtime", "server", "task", "ci", "deploy"]
    assert all(question.get("help") for question in QUESTIONS.values())


def test_the_computed_answers_cannot_be_made_wrong(template: Path, tmp_path: Path) -> None:
    destination = render(template, tmp_path / "service", {"project_name": "numpy"})
    project = tomllib.loads((destination / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.partition(">")[0] for requirement in project["dependencies"]}
    assert "numpy" in names
    assert project["name"] not in names


def test_the_users_own_copier_settings_do_not_leak(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text("defaults: {framework: ninja}\n", encoding="utf-8")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", os.fspath(settings))
    destination = render(template, tmp_path / "service", {})
    answers = yaml.safe_load((destination / ".copier-answers.yml").read_bytes())
    assert answers["framework"] == "fastapi"


def test_a_hostile_name_survives_the_emitted_tests(bench: Workbench, tmp_path: Path) -> None:
    answers = {"project_name": NAMES["quotes"], "description": NAMES["shell"], "runtime": "python"}
    destination = render(bench.template(), tmp_path / "service", answers)
    bench.run([bench.python, "train.py"], destination, timeout=120)
    bench.run([bench.python, "-m", "pytest", "-q", "-p", "no:copie"], destination, timeout=300)
    make = ["make", "--no-print-directory", "--dry-run", "RUN=", "run", "lint", "test", "image"]
    subprocess.run(make, cwd=destination, check=True, capture_output=True)
