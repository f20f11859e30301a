"""CONTRIBUTING.md, followed to the letter: these tests take code and commands from it."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inferplate.checks import CHECKS
from inferplate.render import snapshot
from inferplate.source import QUESTIONS, template_root
from inferplate.workbench import project_environment

ROOT = template_root()
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOOL = ".venv/bin/inferplate"
RUNTIME = "centroids"


def section(title: str) -> str:
    found = re.findall(rf"^## {title}$.*?(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    (text,) = found
    return str(text)


def new_files() -> dict[str, str]:
    """Return the files that the guide has one write, by their paths."""
    text = section("Add a runtime in half an hour")
    block = r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$"
    return dict(re.findall(block, text, re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[list[str]]:
    """Return the command lines of the tool."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(TOOL)]


def run(checkout: Path, command: list[str]) -> str:
    """Run a command of the guide in a checkout, with the environment of these tests."""
    done = subprocess.run(
        [sys.executable, "-m", "inferplate", *command[1:]],
        cwd=checkout,
        env={**project_environment(), "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout in which one may work."""
    folder = snapshot(ROOT, tmp_path / "inferplate")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests/snapshots", folder / "tests/snapshots")
    return folder


def test_a_runtime_is_added_as_the_guide_says(checkout: Path) -> None:
    text = section("Add a runtime in half an hour")
    files = new_files()
    assert len(files) == 5
    for name, content in files.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (choice,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    questions = checkout / QUESTIONS
    text_before = questions.read_text(encoding="utf-8")
    place = re.search(r"^runtime:\n.*?(?=^  default:)", text_before, re.MULTILINE | re.DOTALL)
    assert place
    end = place.end()
    questions.write_text(text_before[:end] + choice + text_before[end:], encoding="utf-8")

    assert "24 combinations" in run(checkout, [TOOL, "variants", "--runtime", RUNTIME])
    (verify,) = commands(text)
    report = run(checkout, verify)
    assert all(name in report for name in CHECKS)


def test_the_loop_keeps_a_project_where_the_guide_says(checkout: Path) -> None:
    text = section("The loop")
    (verify,) = commands(text)
    run(checkout, [*verify, "--check", "render", "--check", "lint"])
    (place,) = re.findall(r"`(kept/[\w/-]+)`", text)
    assert (checkout / place / "src/service/main.py").is_file()


def test_the_targets_files_and_folders_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", GUIDE, re.MULTILINE):
        assert f"\n{target}: " in makefile, target
    written = {str(parent) for name in new_files() for parent in [name, *Path(name).parents]}
    folders = "template|src|tests|docs|examples"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*|\w+\.(?:md|yml|toml))`", GUIDE):
        assert name.rstrip("/") in written or (ROOT / name).exists(), name
