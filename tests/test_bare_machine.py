"""The README's first screen on a machine with nothing but Python and git."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from history import OLDEST, edit, history, new, repository

from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

README = (template_root() / "README.md").read_text(encoding="utf-8")
Machine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Run a command of the README with git and Python in the path, and no settings of anyone."""
    programs, home = tmp_path / "programs", tmp_path / "home"
    programs.mkdir()
    home.mkdir()
    git = shutil.which("git")
    assert git
    (programs / "git").symlink_to(git)
    (programs / "python3").symlink_to(sys.executable)
    kept = ("PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {
        "PATH": str(programs),
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "inferplate", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def empty_folder(top: Path, _: Path) -> None:
    top.mkdir()


def cloned(top: Path, tmp_path: Path) -> None:
    """Clone an empty repository, as a platform gives it."""
    origin = tmp_path / "origin.git"
    Git(tmp_path).raw("init", "--quiet", "--bare", str(origin))
    Git(tmp_path).raw("clone", "--quiet", str(origin), str(top))


def monorepo(top: Path, _: Path) -> None:
    edit(top, {"README.md": new("All services.\n"), "services/other/a.txt": new("other\n")})
    repository(top)


PLACES: Mapping[str, tuple[Callable[[Path, Path], None], str]] = {
    "an empty folder": (empty_folder, "my-service"),
    "a cloned repository": (cloned, "."),
    "a monorepo": (monorepo, "services/my-service"),
}


@pytest.mark.parametrize(("prepare", "destination"), PLACES.values(), ids=PLACES)
def test_a_service_is_made_and_updated(
    prepare: Callable[[Path, Path], None],
    destination: str,
    machine: Machine,
    bench: Workbench,
    tmp_path: Path,
) -> None:
    top = tmp_path / "my-service-top"
    prepare(top, tmp_path)
    source = str(history(bench))
    options = ["--framework", "litestar", "--runtime", "xgboost", "--server", "granian"]
    assert f"inferplate new my-service --defaults {' '.join(options)}" in README
    made = machine(
        top, "new", destination, "--defaults", *options, "--source", source, "--ref", OLDEST
    )
    assert (made.returncode, made.stderr) == (0, "")
    project = top / destination
    if "uncommitted" in made.stdout or "commit it there" in made.stdout:
        git = Git(project)
        for key, value in {"name": "A User", "email": "user@example.org"}.items():
            git.raw("config", f"user.{key}", value)
        git.raw("add", "--all")
        git.raw("commit", "--quiet", "--message", "Add a service")
    assert Git(project).text("status", "--porcelain") == ""
    for command in re.findall(r"^inferplate (update.*?|status) *#", README, re.MULTILINE):
        if "--continue" in command:
            continue
        done = machine(project, *command.split())
        assert (done.returncode, done.stderr) == (0, ""), command
        if command.startswith("update") and "--dry-run" not in command:
            git = Git(project)
            git.raw("add", "--all")
            who = ("-c", "user.name=A User", "-c", "user.email=user@example.org")
            git.raw(*who, "commit", "--quiet", "--allow-empty", "--message", command)
    assert Project.read(project).answers["framework"] == "litestar"
    done = machine(project, "update", "--continue")
    assert (done.returncode, done.stderr) == (
        1,
        "inferplate: make is not installed: run the tests yourself, as README.md says\n",
    )
