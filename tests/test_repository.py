"""The files of the repository that others' tools read, and what the package says about itself."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from inferplate.git import Git
from inferplate.template.questions import read_questions
from inferplate.template.source import template_root

ROOT = template_root()
PROGRAMS = Path(sys.executable).parent
SCHEMAS = {
    "dependabot": [".github/dependabot.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "github-issue-forms": [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/wish.yml"],
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a repository with the files of this one, as they are, and its environment."""
    for name in Git(ROOT).fields("ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        if name != ".venv" and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    git = Git(tmp_path)
    git.raw("init", "--quiet")
    git.raw("add", "--all")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


def hooks(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "pre-commit"), "run", "--all-files"]
    environment = {
        "HOME": str(checkout),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(checkout / "src"),
    }
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("schema", SCHEMAS)
def test_forms_and_dependabot_follow_their_schemas(schema: str) -> None:
    files = [str(ROOT / name) for name in SCHEMAS[schema]]
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_hooks_pass_and_notice(clone: Path) -> None:
    assert hooks(clone).returncode == 0, hooks(clone).stdout
    with (clone / "template/service/src/service/core/cpu.py").open("a", encoding="utf-8") as file:
        file.write("import  os\n")
    found = hooks(clone).stdout
    for hook in ("ruff check", "ruff format", "examples are what the template emits"):
        assert re.search(rf"^{hook}\.+Failed$", found, re.MULTILINE), found


def test_the_policy_names_no_person() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private reporting" in text
    assert "@" not in text
    assert "://" not in text


def test_the_metadata_says_which_pythons_and_that_it_is_typed() -> None:
    """Hatchling rejects classifiers that do not exist when the wheel is built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = [each.rpartition(" ")[2] for each in project["classifiers"] if " :: 3." in each]
    assert pythons[0] == project["requires-python"].removeprefix(">=")
    assert set(pythons) == set(read_questions(ROOT)["python_version"]["choices"])
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "src/inferplate/py.typed").exists()
