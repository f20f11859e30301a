"""Services that were made from a released state, and edited, update to the template of today."""

import io
import re
import shutil
import tarfile
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import copier
import pytest
from conftest import ALL_VARIANTS
from history import commit, files, repository
from test_update import UPDATES, edit_everything, outcomes

from inferplate.git import Git, GitError
from inferplate.project.apply import apply
from inferplate.project.plan import plan_update
from inferplate.project.project import Project
from inferplate.template.questions import read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, covering, variants
from inferplate_tools.workbench import Workbench

PARTS = ("template", "copier.yml", "CHANGELOG.md")
TODAY = "v99.0.0"
STATES: dict[str, str] = {
    state["version"]: state["commit"]
    for state in tomllib.loads(
        (Path(__file__).parent / "released.toml").read_text(encoding="utf-8")
    )["state"]
}
SAMPLE = [ALL_VARIANTS[0]]
"""What is updated in every run; with ``--exhaustive`` few that have every choice of the state."""


@pytest.fixture(autouse=True)
def _history(pytestconfig: pytest.Config) -> None:
    """Leave the tests out in a clone without its history, unless all of them are asked for."""
    git = Git(template_root())
    for version, name in STATES.items():
        try:
            git.raw("cat-file", "-e", f"{name}^{{commit}}")
        except GitError:
            told = f"{version} is not in this clone: fetch all of its history"
            pytest.fail(told) if pytestconfig.getoption("--exhaustive") else pytest.skip(told)


def released(bench: Workbench, version: str) -> Path:
    """Return a repository of the template with a released state and, after it, today's."""

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        archive = Git(template_root()).raw("archive", "--format=tar", STATES[version], *PARTS)
        with tarfile.open(fileobj=io.BytesIO(archive)) as content:
            content.extractall(folder, filter="data")
        git = repository(folder)
        git.raw("tag", version)
        shutil.rmtree(folder / "template")
        ignored = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*_cache")
        shutil.copytree(template_root() / "template", folder / "template", ignore=ignored)
        for name in PARTS[1:]:
            shutil.copyfile(template_root() / name, folder / name)
        commit(git, "today")
        git.raw("tag", TODAY)

    return bench.once(f"released/{version}", make)


def documented(version: str) -> dict[str, int]:
    """Read from the documentation what becomes of the edits of a state, by kind."""
    text = (template_root() / "docs/updates.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {re.escape(version)} \| `(\w+)` \|([\d |]+)\|$", text, re.MULTILINE)
    assert row, f"docs/updates.md has no row of {version}"
    assert STATES[version].startswith(row[1])
    kinds = ("kept", "conflict", "lost")
    return dict(zip(kinds, map(int, row[2].split("|")), strict=True))


def test_there_are_released_states_and_each_is_a_commit_of_this_repository() -> None:
    assert STATES
    git = Git(template_root())
    for version, name in STATES.items():
        git.raw("merge-base", "--is-ancestor", name, "HEAD")
        assert version.startswith("v")


@pytest.mark.parametrize("version", STATES)
def test_every_edit_of_a_released_state_survives(
    version: str,
    bench: Workbench,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    every = request.config.getoption("--exhaustive")
    for variant in [*SAMPLE, *covering(offered(version, tmp_path))] if every else SAMPLE:
        found = updated(bench, version, variant, tmp_path / variant.name)
        assert "lost" not in found.values(), (variant.name, found)
        if variant == SAMPLE[0]:
            number = len(UPDATES) + list(STATES).index(version) + 1
            record_property("edits", (number, f"{version} to today", found))
            counted = {"kept": 0, "conflict": 0, "lost": 0, **Counter(found.values())}
            assert counted == documented(version), "bring the table of docs/updates.md up to date"


def offered(version: str, folder: Path) -> list[Variant]:
    """List the variants of a state, each with the first task of its runtime."""
    asked = Git(template_root()).raw("show", f"{STATES[version]}:copier.yml")
    (folder / "copier.yml").write_bytes(asked)
    return [each for each in variants(read_questions(folder)) if each in ALL_VARIANTS[1:]]


def updated(bench: Workbench, version: str, variant: Variant, project: Path) -> dict[str, str]:
    """Make a service from a state, edit and update it; return what became of each edit."""
    source = released(bench, version)
    copier.run_copy(
        str(source),
        project,
        data=variant.answers(),
        vcs_ref=version,
        defaults=True,
        quiet=True,
        settings=copier.Settings(),
    )
    repository(project)
    lines = edit_everything(project)
    before = files(project)
    plan = plan_update(Project.read(project), {}, TODAY)
    apply(plan)
    assert Project.read(project).version == TODAY
    return outcomes(lines, before, files(project), plan.conflicts.keys())
