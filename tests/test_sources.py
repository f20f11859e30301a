"""Where the template comes from: a mirror, a fork, a folder, a bundle, the installed version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, Run
from history import (
    NEWEST,
    OLDEST,
    PREVIOUS,
    MakeProject,
    commit,
    edit,
    emitted,
    files,
    history,
    last,
    new,
    repository,
    save,
    state,
    swap,
    update,
)

from inferplate.commands import new as new_module
from inferplate.git import Git
from inferplate.project import installed
from inferplate.project.project import Project
from inferplate.template.source import PUBLIC_ADDRESS
from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

DEFAULT = ALL_VARIANTS[0]
GRANIAN = Variant(DEFAULT.framework, DEFAULT.runtime, "granian")


def mirror(source: Path, folder: Path) -> Path:
    Git(source).raw("clone", "--quiet", "--mirror", str(source), str(folder / "mirror.git"))
    return folder / "mirror.git"


def bundle(source: Path, folder: Path) -> Path:
    Git(source).raw("bundle", "create", "--quiet", str(folder / "template.bundle"), "--all")
    return folder / "template.bundle"


def folder_of(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder / "a folder"))


Elsewhere = Callable[[Path, Path], Path]
ELSEWHERE: dict[str, Elsewhere] = {"mirror": mirror, "bundle": bundle, "folder": folder_of}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_project_is_made_from_another_source_and_moved_to_one(
    kind: str,
    bench: Workbench,
    inferplate: Run,
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    source = ELSEWHERE[kind](history(bench), tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ("--defaults", "--ref", PREVIOUS, "--source", source.name)
    code, _, error = inferplate("new", "made", *options)
    assert (code, error) == (0, "")
    made = Project.read(tmp_path / "made")
    assert (made.source, made.version) == (str(source), PREVIOUS)
    project = make_project()
    code, printed, _ = inferplate("update", project, "--to", OLDEST, "--source", source.name)
    assert code == 0
    assert f"becomes {source}" in "".join(printed.splitlines())
    assert (moved := Project.read(project)).source == str(source)
    assert moved.version == OLDEST
    assert Git(project).text("diff", "--name-only") == ".copier-answers.yml"
    commit(Git(project), "moved")
    assert update(project).version == NEWEST
    assert Project.read(project).source == str(source)


def test_without_a_version_another_source_gives_its_newest(
    bench: Workbench, inferplate: Run, make_project: MakeProject, tmp_path: Path
) -> None:
    fork = Path(shutil.copytree(history(bench), tmp_path / "fork"))
    edit(fork, {"template/service/LICENSE.jinja": last("after the release")})
    commit(Git(fork), "after the release")
    options = ("--defaults", "--source", fork)
    assert json.loads(inferplate("new", tmp_path / "made", "--json", *options)[1])["version"] == (
        NEWEST
    )
    project = make_project()
    code, printed, _ = inferplate("update", project, "--source", fork, "--json")
    assert (code, json.loads(printed)["source"]) == (0, str(fork))
    assert Project.read(project).version == NEWEST


def test_a_source_that_cannot_be_reached_is_not_recorded(
    inferplate: Run, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = make_project()
    monkeypatch.setattr(installed, "bundled_template", lambda: tmp_path)
    monkeypatch.setattr(installed, "installed_version", lambda: OLDEST)
    before = state(project)
    address = "https://me:geheim@127.0.0.1:1/fork.git"
    for options in ([], ["--server", "granian"], ["--to", PREVIOUS]):
        code, _, error = inferplate("update", project, "--source", address, *options)
        assert (code, error.count("\n")) == (1, 1)
        assert "cannot reach the template at https://127.0.0.1:1/fork.git" in error
        assert "geheim" not in error
        assert state(project) == before
    made = tmp_path / "made"
    assert inferplate("new", made, "--defaults", "--source", address)[0] == 1
    assert not made.exists()


def test_a_relative_source_is_seen_from_the_project(
    bench: Workbench,
    inferplate: Run,
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    project = make_project()
    shutil.copytree(history(bench), tmp_path / "template")
    source = Project.read(project).source
    save(project, {".copier-answers.yml": swap(source, "../template")})
    (tmp_path / "else/where").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "else/where")
    code, printed, _ = inferplate("status", project, "--json")
    assert (code, json.loads(printed)["newest"]) == (0, NEWEST)
    assert inferplate("update", project)[0] == 0
    assert Project.read(project).source == "../template"
    edit(project, {"Makefile": new("test:\n\t@exit 0\n")})
    assert inferplate("update", project, "--continue")[0] == 0


def test_an_update_goes_to_anything_that_git_knows(
    bench: Workbench, inferplate: Run, make_project: MakeProject, tmp_path: Path
) -> None:
    fork = Path(shutil.copytree(history(bench), tmp_path / "fork"))
    git = Git(fork)
    git.raw("switch", "--quiet", "--create", "next")
    edit(fork, {"template/service/LICENSE.jinja": last("from a branch")})
    commit(git, "from a branch")
    for reference in ("next", git.text("rev-parse", "HEAD")):
        project = make_project()
        code, _, error = inferplate("update", project, "--source", fork, "--to", reference)
        assert (code, error) == (0, "")
        assert Project.read(project).version.startswith(f"{NEWEST}-1-g")
        assert (project / "LICENSE").read_text(encoding="utf-8").endswith("from a branch\n")
        shutil.rmtree(project)


@pytest.mark.parametrize("source", [PUBLIC_ADDRESS, "https://127.0.0.1:1/mirror.git"])
def test_other_answers_at_the_installed_version_need_no_network(
    source: str,
    bench: Workbench,
    template: Path,
    inferplate: Run,
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "bundled_template", lambda: template)
    monkeypatch.setattr(installed, "installed_version", lambda: OLDEST)
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "none")
    project = make_project()
    before = Project.read(project).source
    save(project, {".copier-answers.yml": swap(before, source)})
    code, _, error = inferplate("update", project, "--server", "granian")
    assert (code, error) == (0, "")
    found = files(project)
    fresh = files(emitted(bench, GRANIAN, OLDEST))
    assert swap(source, before)(found.pop(".copier-answers.yml").decode()) == (
        fresh.pop(".copier-answers.yml").decode()
    )
    assert found == fresh
    edit(project, {"Makefile": new("test:\n\t@exit 0\n")})
    assert inferplate("update", project, "--continue")[0] == 0
    assert inferplate("update", project, "--to", NEWEST)[0] == 1


def test_the_repository_of_another_user_is_told_with_what_to_do(
    inferplate: Run, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    repository(checkout)
    project = make_project()
    monkeypatch.setattr(new_module, "template_root", lambda: checkout)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    commands = {project: ("update", project), checkout: ("new", tmp_path / "made", "--defaults")}
    for folder, command in commands.items():
        code, _, error = inferplate(*command)
        assert (code, error.count("\n")) == (1, 1)
        assert "the repository belongs to another user; if you trust it, run 'git config " in error
        assert f"--add safe.directory {folder}" in error
    assert not (tmp_path / "made").exists()
