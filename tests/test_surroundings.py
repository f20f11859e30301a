"""Where a project is, what is beside it, and what console shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Run
from history import (
    NEWEST,
    OLDEST,
    PREVIOUS,
    MakeProject,
    edit,
    last,
    new,
    repository,
    save,
    state,
)

from inferplate.commands import new as new_module
from inferplate.project.project import ANSWERS_FILE, BESIDE_ANOTHER, Project

FOREIGN = "_src_path: https://example.org/docs.git\n_commit: 1.0.0\ntitle: Documents\n"


@pytest.fixture
def wheel(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tool take the template as from a wheel of the oldest version."""
    monkeypatch.setattr(new_module, "bundled_template", lambda: template)
    monkeypatch.setattr(new_module, "installed_version", lambda: OLDEST)


@pytest.mark.parametrize("command", ["status", "update"])
def test_a_command_in_a_subfolder_finds_the_project(
    command: str, make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(version=NEWEST)
    monkeypatch.chdir(project / "src/service/core")
    code, printed, error = inferplate(command)
    assert (code, error) == (0, "")
    assert NEWEST in printed
    monkeypatch.chdir(project.parent)
    code, _, error = inferplate(command)
    assert code == 1
    assert "it is not a project made from the template" in error


@pytest.mark.parametrize("command", ["status", "update"])
def test_a_project_of_another_template_is_named_as_such(
    command: str, inferplate: Run, tmp_path: Path
) -> None:
    edit(tmp_path, {ANSWERS_FILE: new(FOREIGN)})
    code, _, error = inferplate(command, tmp_path)
    assert (code, error.count("\n")) == (1, 1)
    assert "is of another template, https://example.org/docs.git: it has no answers to" in error


@pytest.mark.parametrize("usual", ["ours", "theirs"])
def test_another_template_may_have_answers_beside(
    usual: str, make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project(version=PREVIOUS)
    beside = ".copier-answers.docs.yml"
    if usual == "theirs":
        (project / ANSWERS_FILE).rename(project / BESIDE_ANOTHER)
        beside = ANSWERS_FILE
    save(project, {beside: new(FOREIGN)})
    code, printed, error = inferplate("update", project, "--server", "granian", "--to", NEWEST)
    assert (code, error) == (0, "")
    updated = Project.read(project)
    assert (updated.version, updated.answers["server"]) == (NEWEST, "granian")
    assert updated.answers_file == (ANSWERS_FILE if usual == "ours" else BESIDE_ANOTHER)
    assert (project / beside).read_text() == FOREIGN
    assert f" {beside} " not in printed


@pytest.mark.usefixtures("wheel")
def test_a_service_is_made_beside_another_template(inferplate: Run, tmp_path: Path) -> None:
    folder = tmp_path / "iris"
    edit(folder, {ANSWERS_FILE: new(FOREIGN)})
    code, _, error = inferplate("new", folder, "--defaults")
    assert (code, error) == (0, "")
    assert (folder / ANSWERS_FILE).read_text() == FOREIGN
    assert Project.read(folder).answers_file == BESIDE_ANOTHER
    script = (folder / "scripts/update-branch.sh").read_text()
    assert f"answers={BESIDE_ANOTHER}\n" in script
    assert "is a project already" in inferplate("new", folder, "--defaults")[2]


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    ("ci", "told"),
    [
        ("github", "move services/iris/.github/workflows/ to .github/workflows/, and give each"),
        ("gitlab", "include: services/iris/.gitlab-ci.yml"),
        ("none", ""),
    ],
)
def test_in_a_monorepo_it_says_where_workflows_have_to_be(
    ci: str, told: str, inferplate: Run, tmp_path: Path
) -> None:
    top = tmp_path / "all"
    edit(top, {"README.md": new("All of them.\n")})
    repository(top)
    code, printed, error = inferplate(
        "new", top / "services/iris", "--defaults", "--set", f"ci={ci}"
    )
    assert (code, error) == (0, "")
    remark = printed.splitlines()[0]
    assert remark.startswith("It is in a git repository already: commit it there.")
    assert told in remark
    assert ("top only" in remark) == bool(told)
    if ci == "github":
        ran = re.search(r"'(defaults: .*?)' and", remark)
        assert ran
        folder = {"working-directory": "services/iris"}
        assert yaml.safe_load(ran[1]) == {"defaults": {"run": folder}}


def test_a_pull_request_names_paths_whole(make_project: MakeProject, tmp_path: Path) -> None:
    script = (make_project(version=NEWEST) / "scripts/update-branch.sh").read_text()
    top = tmp_path / "all"
    here = top / "services/größe"
    edit(top, {"other.txt": new("other\n")})
    texts = {"pyproject.toml": "", ANSWERS_FILE: "_commit: v1\n", "maß.txt": "a\n", "ü b": "x\n"}
    edit(here, {"scripts/update-branch.sh": new(script), **{k: new(v) for k, v in texts.items()}})
    git = repository(top)
    copier = tmp_path / "bin/copier"
    copier.parent.mkdir()
    copier.write_text(
        "#!/bin/sh\n[ $1 != check-update ] || exit 2\n"
        "rm 'ü b'\nprintf '<<<<<<< before updating\\n' > maß.txt\n"
    )
    copier.chmod(0o755)
    environment = {**os.environ, "PATH": f"{copier.parent}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "scripts/update-branch.sh"], cwd=here, env=environment, check=True)
    message = git.text("log", "-1", "--format=%b")
    assert "```text\nservices/größe/maß.txt\n```" in message
    assert "```text\nservices/größe/ü b\n```" in message


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_done(
    make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(version=PREVIOUS)
    before = state(project)
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    code, printed, error = inferplate("update", project)
    assert (code, printed) == (1, "")
    assert error == f"inferplate: {project} cannot be written: nothing was changed\n"
    assert state(project) == before


CONSOLES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "cp932": {"PYTHONIOENCODING": "cp932"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
}


@pytest.mark.parametrize("console", CONSOLES)
def test_every_console_shows_it_within_40_columns(console: str, make_project: MakeProject) -> None:
    project = make_project(version=OLDEST)
    save(project, {"src/service/größe.py": new("# mine\n"), "Makefile": last("# mine")})
    for arguments in (["update", "--dry-run"], ["status"], ["variants", "--all"], ["variants"]):
        done = subprocess.run(
            [sys.executable, "-m", "inferplate", *arguments],
            cwd=project,
            capture_output=True,
            check=False,
            env={**os.environ, "COLUMNS": "40", **CONSOLES[console]},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        printed = done.stdout.decode(CONSOLES[console].get("PYTHONIOENCODING", "ascii"))
        assert "\u2026" not in printed
        if arguments[0] == "update":
            assert "What v0.2.0 brings." in printed
            assert "?" not in printed
