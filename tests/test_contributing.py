"""CONTRIBUTING.md, followed to the letter: these tests take code and commands from it."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inferplate.template.render import snapshot
from inferplate.template.source import QUESTIONS, template_root
from inferplate_tools.verify.checks import CHECKS
from inferplate_tools.workbench import project_environment

ROOT = template_root()
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOOLS = {
    ".venv/bin/inferplate": "inferplate",
    ".venv/bin/inferplate-verify": "inferplate_tools.verify",
}
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
    """Return the command lines of our tools."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.partition(" ")[0] in TOOLS]


def run(checkout: Path, command: list[str]) -> str:
    """Run a command of the guide in a checkout, with the environment of these tests."""
    done = subprocess.run(
        [sys.executable, "-m", TOOLS[command[0]], *command[1:]],
        cwd=checkout,
        env={**project_environment(), "PYTHONPATH": f"{checkout / 'src'}:{checkout / 'tools'}"},
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
    for name in ("src", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
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

    assert "24 combinations" in run(
        checkout, [".venv/bin/inferplate", "variants", "--runtime", RUNTIME]
    )
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
    folders = "template|src|tools|tests|docs|examples"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*|\w+\.(?:md|yml|toml))`", GUIDE):
        assert name.rstrip("/") in written or (ROOT / name).exists(), name
