"""Conflicts of every kind: both sides are kept, named, and found until they are resolved."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import Run
from history import (
    MakeProject,
    commit,
    edit,
    files,
    gone,
    history,
    last,
    new,
    of,
    release,
    save,
    state,
    update,
)

from inferplate.git import Git
from inferplate.project.conflicts import Sides, record
from inferplate_tools.workbench import Workbench

SERVICE = "template/service"
RELEASE = "v0.4.0"
THEIRS = f"inferplate-{RELEASE}"
LOGO, OURS, NEWER = b"\0logo", b"\0ours", b"\0newer"
Make = Callable[[Path], None]


@pytest.fixture
def project(make_project: MakeProject, bench: Workbench, tmp_path: Path) -> Path:
    """Give a project whose template has released a version that conflicts with anything."""
    template = Path(shutil.copytree(history(bench), tmp_path / "template"))
    service = template / SERVICE
    (service / "logo.bin").write_bytes(LOGO)
    release(template, "v0.3.1", {f"{SERVICE}/plan.txt": new("plan\n")})
    (service / "logo.bin").write_bytes(NEWER)
    (service / "healthcheck.py").write_text("# theirs\n", encoding="utf-8")
    edits = {
        f"{SERVICE}/plan.txt": gone,
        f"{SERVICE}/added": gone,
        f"{SERVICE}/compose.yaml.jinja": last("# theirs"),
    }
    (service / "added").touch()
    release(template, RELEASE, edits)
    (service / "plan.txt").mkdir()
    (service / "notes").mkdir()
    for name in ("plan.txt/step.txt", "notes/more.txt"):
        (service / name).write_text("theirs\n", encoding="utf-8")
    git = Git(template)
    commit(git, RELEASE)
    git.raw("tag", "--force", RELEASE)
    made = of(template, make_project())
    update(made, "v0.3.1")
    commit(Git(made), "updated")
    return made


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("Makefile")


def folded(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("mine\n", encoding="utf-8")


def written(content: bytes) -> Make:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


LINK = "one is a link and one a file"
FOLDER = "one is a file and one a folder"
KINDS: dict[str, tuple[str, Make, str, dict[str, bytes]]] = {
    "a link in a file's place": (
        "healthcheck.py",
        linked,
        LINK,
        {f"healthcheck.py~{THEIRS}": b"# theirs\n"},
    ),
    "a folder in a file's place": (
        "healthcheck.py",
        folded,
        FOLDER,
        {"healthcheck.py/mine.txt": b"mine\n", f"healthcheck.py~{THEIRS}": b"# theirs\n"},
    ),
    "a file in a folder's place": (
        "notes",
        written(b"mine\n"),
        FOLDER,
        {"notes/more.txt": b"theirs\n", "notes~yours": b"mine\n"},
    ),
    "an edited file that becomes a folder": (
        "plan.txt",
        written(b"mine\n"),
        FOLDER,
        {"plan.txt/step.txt": b"theirs\n", "plan.txt~yours": b"mine\n"},
    ),
    "a file that is not text": ("logo.bin", written(OURS), "it is not text", {"logo.bin": OURS}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_text_is_named_and_both_sides_are_kept(
    kind: str, project: Path, inferplate: Run
) -> None:
    path, make, told, expected = KINDS[kind]
    make(project / path)
    git = Git(project)
    commit(git, "mine")
    code, printed, error = inferplate("update", project)
    assert (code, error) == (1, "")
    assert told in printed
    found = files(project)
    assert expected.items() <= found.items()
    assert (project / path).is_symlink() == (make is linked)
    code, _, error = inferplate("update", project, "--continue")
    assert (code, f"conflicts are left in {path}" in error) == (1, True)
    edit(project, {"Makefile": new("test:\n\t@exit 0\n")})
    git.raw("add", "--all")
    assert inferplate("update", project, "--continue")[0] == 0


def test_of_a_whole_file_one_side_is_taken_with_git(project: Path, inferplate: Run) -> None:
    (project / "logo.bin").write_bytes(OURS)
    git = Git(project)
    save(project, {"compose.yaml": last("# mine")})
    before = files(project)
    code, printed, _ = inferplate("update", project)
    assert code == 1
    assert "'git checkout --ours FILE' keeps yours" in printed
    status = git.text("status", "--porcelain", "logo.bin", "compose.yaml").splitlines()
    assert status == ["UU compose.yaml", "UU logo.bin"]
    git.raw("checkout", "--theirs", "logo.bin")
    git.raw("checkout", "--ours", "compose.yaml")
    found = files(project)
    assert (found["logo.bin"], found["compose.yaml"]) == (NEWER, before["compose.yaml"])
    git.raw("add", "logo.bin")
    code, _, error = inferplate("update", project, "--continue")
    assert (code, "conflicts are left in compose.yaml: " in error) == (1, True)
    edit(project, {"Makefile": new("test:\n\t@exit 0\n")})
    git.raw("add", "compose.yaml")
    assert inferplate("update", project, "--continue")[0] == 0


def test_one_can_go_back_as_it_says(
    project: Path, inferplate: Run, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(project, {"compose.yaml": last("# mine")})
    before = files(project)
    _, printed, _ = inferplate("update", project)
    monkeypatch.chdir(project)
    bench.run(["sh", "-c", printed.splitlines()[-1].partition(": ")[2]], project, timeout=60)
    assert files(project) == before


def test_conflicts_that_were_committed_are_found(project: Path, inferplate: Run) -> None:
    save(project, {"compose.yaml": last("# mine")})
    assert json.loads(inferplate("status", project, "--json")[1])["conflicts"] == []
    assert inferplate("update", project)[0] == 1
    commit(Git(project), "all of it")
    before = state(project)
    for options in ([], ["--server", "granian"], ["--continue"]):
        code, _, error = inferplate("update", project, *options)
        assert (code, "conflicts are left in compose.yaml: resolve" in error) == (1, True)
        assert state(project) == before
    assert json.loads(inferplate("status", project, "--json")[1])["conflicts"] == ["compose.yaml"]
    printed = inferplate("status", project)[1]
    assert "Conflicts that an update left; resolve them:\n  compose.yaml\n" in printed


def test_a_failure_to_record_a_conflict_takes_the_update_back(
    project: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(project, {"compose.yaml": last("# mine")})
    before = state(project)

    def fail(git: Git, sides: Mapping[str, Sides]) -> None:
        record(git, sides)
        raise KeyboardInterrupt

    monkeypatch.setattr("inferplate.project.apply.record", fail)
    assert inferplate("update", project)[0] == 130
    assert state(project) == before
