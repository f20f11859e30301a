"""The committed examples are what the template emits."""

import subprocess
import sys

import yaml

from inferplate.template.questions import read_choices, read_questions
from inferplate.template.source import template_root

EXAMPLES = template_root() / "examples"
COLUMNS = ("framework", "runtime", "server", "ci")
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


def test_they_are_what_the_template_emits() -> None:
    command = [sys.executable, str(EXAMPLES / "render.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_says_what_they_are() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    questions = read_questions(template_root())
    labels = {
        choice.value: choice.label
        for question in COLUMNS
        for choice in read_choices(questions[question]["choices"])
    }
    for folder in FOLDERS:
        answers = yaml.safe_load((folder / ".copier-answers.yml").read_bytes())
        cells = [labels[answers[question]].partition(":")[0] for question in COLUMNS]
        assert f"| [{folder.name}]({folder.name}) | {' | '.join(cells)} |" in page


def test_no_model_is_committed() -> None:
    command = ["git", "ls-files", "examples/*/models/*"]
    listed = subprocess.run(command, cwd=template_root(), capture_output=True, check=True)
    assert listed.stdout == b""
