"""What ``inferplate status`` says of a project."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, Run
from history import (
    NEWEST,
    PREVIOUS,
    MakeProject,
    edit,
    emitted,
    gone,
    last,
    new,
    save,
    state,
    swap,
    update,
)

from inferplate.commands.status import status
from inferplate.project import installed
from inferplate.project.project import Project
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench


def test_says_version_answers_edits_and_what_is_yours(make_project: MakeProject) -> None:
    project = make_project(version=PREVIOUS)
    edits = {"Makefile": last("# mine"), ".env.example": gone, "train.py": last("# mine")}
    save(project, {**edits, "src/service/own.py": new("# mine\n")})
    edit(project, {"README.md": last("not committed")})
    found = status(Project.read(project))
    assert (found.project.version, found.newest) == (PREVIOUS, NEWEST)
    assert found.edited == {".env.example": "deleted", "Makefile": "edited", "README.md": "edited"}
    assert found.yours == [
        "src/service/own.py",
        "src/service/predict.py",
        "src/service/routes.py",
        "src/service/settings.py",
        "tests/golden.json",
        "tests/test_model.py",
        "train.py",
    ]


def test_needs_no_repository(bench: Workbench, tmp_path: Path) -> None:
    project = shutil.copytree(emitted(bench, ALL_VARIANTS[0], NEWEST), tmp_path / "project")
    edit(project, {"Makefile": last("# mine")})
    found = status(Project.read(project))
    assert found.edited == {"Makefile": "edited"}
    assert found.yours is not None
    assert "train.py" in found.yours


def test_the_command_prints_a_table_or_json_and_changes_nothing(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    before = state(project)
    code, table, _ = inferplate("status", project)
    assert code == 0
    assert "v0.1.0" in table
    assert "framework" in table
    code, text, _ = inferplate("status", project, "--json")
    assert code == 0
    document = json.loads(text)
    assert document["answers"]["framework"] == "fastapi"
    assert document["edited"] == {}
    assert state(project) == before


def test_it_can_fail_where_a_newer_version_is_there(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    assert inferplate("status", project, "--check", "--quiet") == (1, "", "")
    update(project)
    assert inferplate("status", project, "--check", "--quiet") == (0, "", "")
    edit(project, {".copier-answers.yml": lambda text: text.replace("history", "nowhere")})
    assert inferplate("status", project, "--check", "--quiet")[0] == 1
    assert inferplate("status", project, "--quiet") == (0, "", "")


def test_without_the_source_it_says_what_the_answers_file_says(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    edit(project, {".copier-answers.yml": lambda text: text.replace("history", "nowhere")})
    code, table, _ = inferplate("status", project)
    assert code == 0
    told = " ".join(table.split())
    assert "newest unknown: cannot reach the template at" in told
    assert told.count("unknown: cannot reach the template") == 3


def test_a_token_in_the_source_is_not_shown(make_project: MakeProject, inferplate: Run) -> None:
    project = make_project()
    source = "https://me:geheim@127.0.0.1:1/template.git"
    origin = f"_src_path: {Project.read(project).source}\n"
    edit(project, {".copier-answers.yml": swap(origin, f"_src_path: {source}\n")})
    for options in ([], ["--json"]):
        code, printed, _ = inferplate("status", project, *options)
        assert code == 0
        assert "https://127.0.0.1:1/template.git" in printed
        assert "geheim" not in printed


def test_a_version_that_the_source_does_not_have_is_told(make_project: MakeProject) -> None:
    project = make_project()
    edit(project, {".copier-answers.yml": lambda text: text.replace("v0.1.0", "v9.0.0")})
    found = status(Project.read(project))
    assert (found.newest, found.edited, found.yours) == (NEWEST, None, None)
    assert "has no version 'v9.0.0'" in found.missing


def test_without_the_source_the_installed_template_serves_for_its_own_version(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    source = {".copier-answers.yml": lambda text: text.replace("history", "nowhere")}
    save(project, {**source, "Makefile": last("# mine")})
    monkeypatch.setattr(installed, "bundled_template", template_root)
    monkeypatch.setattr(installed, "installed_version", lambda: "v0.1.0")
    found = status(Project.read(project))
    assert found.newest is None
    assert found.edited == {"Makefile": "edited"}
    monkeypatch.setattr(installed, "installed_version", lambda: "v0.2.0")
    assert status(Project.read(project)).edited is None
