"""What is checked before a release is published, on a release of the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from history import commit, edit, repository

from inferplate.git import Git
from inferplate.template.releases import CHANGELOG
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

TAG = "v0.1.0"
CHECK = ".github/check_release.py"


def python(*arguments: str, folder: Path) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)


@pytest.fixture
def released(bench: Workbench, tmp_path: Path) -> Path:
    """Make a clone of the checkout with a tag, and its wheel installed in ``site/``."""

    def make(folder: Path) -> None:
        names = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in Git(template_root()).fields(*names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(template_root() / name, folder / name)
        heading = f"## [{TAG.removeprefix('v')}]"
        edit(folder, {CHANGELOG: lambda text: text.replace("## [Unreleased]", heading)})
        repository(folder).raw("tag", TAG)
        python("-m", "uv", "build", "--quiet", folder=folder)
        (wheel,) = folder.glob("dist/*.whl")
        python("-m", "zipfile", "-e", str(wheel), "site", folder=folder)

    return Path(shutil.copytree(bench.once("released", make), tmp_path / "released"))


def check(released: Path, tag: str = TAG) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHECK, tag],
        cwd=released,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "site", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )


def retag(released: Path, tag: str) -> None:
    commit(Git(released), "change")
    Git(released).raw("tag", "--force", tag)


@pytest.mark.slow
def test_a_release_that_is_right_gives_its_notes(released: Path) -> None:
    done = check(released)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### Added")
    assert "\n## " not in done.stdout


@pytest.mark.slow
def test_everything_that_is_wrong_is_named(released: Path) -> None:
    (released / "template/service/LICENSE.jinja").write_text("Take it.\n", encoding="utf-8")
    retag(released, "v0.2.0")
    done = check(released, "v0.2.0")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-5:] == [
        "the wheel is of v0.1.0, not of v0.2.0",
        "the templates of tag and wheel differ in service/LICENSE.jinja",
        "'inferplate new' records other answers than v0.2.0 from gh:inferplate/inferplate",
        "the projects of tag and wheel differ in LICENSE",
        "CHANGELOG.md has no section for v0.2.0",
    ]


def test_the_workflow_runs_it_on_what_it_publishes() -> None:
    path = template_root() / ".github/workflows/release.yml"
    jobs = yaml.safe_load(path.read_bytes())["jobs"]
    commands = [step.get("run", "") for step in jobs["draft"]["steps"]]
    checked = next(index for index, command in enumerate(commands) if CHECK in command)
    assert "uv build" in commands[:checked]
    assert any("dist/*" in command for command in commands[checked:])
    assert jobs["publish"]["needs"] == "draft"
    assert jobs["publish"]["permissions"]["id-token"] == "write"
