"""An update asks what is new, and notices answers that were changed by hand."""

from pathlib import Path

import pytest
from conftest import Run
from history import (
    NEWEST,
    OLDEST,
    PREVIOUS,
    Edit,
    MakeProject,
    edit,
    last,
    new,
    of,
    release,
    save,
    state,
    swap,
    update,
)
from terminal import CTRL_C, ENTER, typed

from inferplate.commands.status import status
from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

ANSWERS = ".copier-answers.yml"
NEW_QUESTIONS = """
zone:
  type: str
  help: Where does it run?
  default: north
street:
  type: str
  help: In which street?
  default: Main
  when: "{{ zone == 'south' }}"
quiet:
  type: str
  ask: false
  default: yes
"""


@pytest.fixture
def asking(bench: Workbench, forked: Path, make_project: MakeProject) -> Path:
    """Return a project whose template has new questions in its next version."""
    release(forked, "v0.4.0", {"copier.yml": last(NEW_QUESTIONS)})
    return of(forked, make_project(version=NEWEST))


def test_what_is_new_is_asked_on_a_terminal(
    asking: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with typed("\x7f" * 5 + f"south{ENTER}" + "\x7f" * 4 + f"Station Road{ENTER}", monkeypatch):
        code, printed, error = inferplate("update", asking)
    assert (code, error) == (0, "")
    answers = Project.read(asking).answers
    assert (answers["zone"], answers["street"], answers["quiet"]) == (
        "south",
        "Station Road",
        "True",
    )
    assert "New questions and the answers taken; 'update --set' changes them:\n  quiet" in printed
    assert "  zone: " not in printed


def test_only_what_applies_is_asked(
    asking: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with typed(ENTER, monkeypatch):  # a second question would end in a closed terminal
        assert inferplate("update", asking)[0] == 0
    assert Project.read(asking).answers["zone"] == "north"


def test_a_question_that_is_not_answered_changes_nothing(
    asking: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(asking)
    with typed(CTRL_C, monkeypatch):
        code, _, error = inferplate("update", asking)
    assert (code, error) == (130, "inferplate: interrupted\n")
    assert state(asking) == before


@pytest.mark.parametrize("option", ["--defaults", "--dry-run", "--json", "--set=zone=south"])
def test_what_is_given_or_not_wanted_is_not_asked(
    option: str, asking: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = option.startswith("--set")
    with typed(ENTER if given else "", monkeypatch):  # the street, which the south has
        code, printed, error = inferplate("update", asking, *(["--to", "v0.4.0"] * given), option)
    assert (code, error) == (0, "")
    assert ("zone" in printed) or given


def test_without_a_terminal_the_defaults_are_taken_and_listed(
    asking: Path, inferplate: Run
) -> None:
    code, printed, error = inferplate("update", asking)
    assert (code, error) == (0, "")
    assert "New questions and the answers taken; 'update --set' changes them:" in printed
    assert "\n  zone: north\n" in printed
    assert Project.read(asking).answers["zone"] == "north"


BY_HAND: dict[str, tuple[Edit, str, str]] = {
    "the server": (swap("server: uvicorn", "server: granian"), "server", "--server granian"),
    "the version": (swap("_commit: v0.2.0", "_commit: v0.3.0"), "_commit", "--to v0.3.0"),
    "several": (
        lambda text: text.replace("Proprietary", "MIT").replace("ci: github", "ci: none"),
        "ci, licence",
        "--set ci=none --set licence=MIT",
    ),
    "a list": (swap("deploy:\n- compose\n", "deploy: []\n"), "deploy", "--set deploy="),
}


@pytest.mark.parametrize(("change", "names", "remedy"), BY_HAND.values(), ids=BY_HAND)
def test_answers_changed_by_hand_are_noticed(
    change: Edit, names: str, remedy: str, make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project(version=PREVIOUS)
    begun = Git(project).text("rev-parse", "HEAD")[:12]
    edit(project, {ANSWERS: change})
    assert f"{names} in {ANSWERS} w" in status(Project.read(project)).by_hand  # not yet committed
    save(project, {"src/service/own.py": new("# mine\n")})
    before = state(project)
    told = status(Project.read(project)).by_hand
    assert told.startswith(f"{names} in {ANSWERS} w")
    assert f"git checkout {begun} -- {ANSWERS}" in told
    assert f"inferplate update {remedy}" in told
    for options in ([], ["--dry-run"], ["--to", NEWEST]):
        code, _, error = inferplate("update", project, *options)
        assert (code, error) == (1, f"inferplate: {told}\n")
    assert told in " ".join(inferplate("status", project)[1].split())
    assert state(project) == before


def test_the_remedy_is_one(make_project: MakeProject, inferplate: Run) -> None:
    project = make_project(version=PREVIOUS)
    save(project, {ANSWERS: swap("server: uvicorn", "server: granian")})
    Git(project).raw("checkout", "--quiet", "HEAD~1", "--", ANSWERS)
    save(project, {})
    assert inferplate("update", project, "--server", "granian")[0] == 0
    save(project, {})
    assert status(Project.read(project)).by_hand == ""
    assert "with granian" in (project / "src/service/server.py").read_text()


def test_what_an_update_changed_is_not_taken_for_it(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project(Variant("fastapi", "python", "uvicorn"), version=OLDEST)
    assert status(Project.read(project)).by_hand == ""
    update(project, PREVIOUS)
    Git(project).raw("checkout", "--quiet", "HEAD", "--", "Dockerfile")  # one file taken back
    assert status(Project.read(project)).by_hand == ""
    save(project, {})
    update(project, server="granian")
    save(project, {"Makefile": last("# mine"), "Dockerfile": last("# mine")})
    assert status(Project.read(project)).by_hand == ""
    save(project, {ANSWERS: lambda text: f"# mine\n{text}"})
    assert status(Project.read(project)).by_hand == ""
