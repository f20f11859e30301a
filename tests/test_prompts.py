"""Questions in a terminal of 80 columns: nothing of them is cut."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import copier
import pytest
from history import OLDEST, history
from terminal import CTRL_C, CTRL_U, ENTER, shown

from inferplate.template.questions import Templates, read_choices, read_questions
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

EVERY_QUESTION = read_questions(template_root())
QUESTIONS = {
    name: question
    for name, question in EVERY_QUESTION.items()
    if question.get("when") is not False and question.get("ask") is not False
}
REFUSAL = "Validation error for question '{}': {}"
WITHOUT_LETTERS = REFUSAL.format("project_name", "use a letter (a to z) or a digit")

ALLOWED = {("author", "!!!"), ("description", "!!!"), ("repository_url", "")}
"""Values that are good answers."""


def texts(question: Mapping[str, Any], answers: Mapping[str, str]) -> list[str]:
    """List what a question shows: its words, its choices, and why some are disabled."""
    found = [question["help"]]
    for choice in read_choices(question.get("choices", ())):
        reason = Templates().render(choice.validator, answers)
        found.append(f"- {choice.label} ({reason})" if reason else choice.label)
    return found


@pytest.mark.parametrize("runtime", ["transformers", "python"])  # each task is disabled by one
@pytest.mark.parametrize("program", ["copier", "inferplate"])
def test_questions_fit_80_columns(
    program: str, runtime: str, bench: Workbench, tmp_path: Path
) -> None:
    answers = {"runtime": runtime}
    asked = {name: texts(each, answers) for name, each in QUESTIONS.items() if name not in answers}
    name, *others = asked
    dialogue = [
        (asked[name][0], f"{CTRL_U}!!!{ENTER}"),
        (WITHOUT_LETTERS, f"{CTRL_U}Own name{ENTER}"),
        *((asked[other][-1], ENTER) for other in others[:-1]),
        (asked[others[-1]][-1], CTRL_C),
    ]
    source = str(history(bench))
    command = {
        "copier": ["copy", source, "own", "--vcs-ref", OLDEST, "--data", f"runtime={runtime}"],
        "inferplate": ["new", "own", "--source", source, "--ref", OLDEST, "--runtime", runtime],
    }[program]
    screen = shown([sys.executable, "-m", program, *command], dialogue, 80, tmp_path)
    for text in [WITHOUT_LETTERS, *(text for each in asked.values() for text in each)]:
        assert re.sub(r"\s", "", text) in screen, text
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("value", ["!!!", "", "x" * 300, "two\nlines", " around "])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, question in EVERY_QUESTION.items()
        if "validator" in question and question.get("when") is not False
    ],
)
def test_the_reason_of_a_refusal_fits_80_columns(
    name: str, value: str, template: Path, tmp_path: Path
) -> None:
    if (name, value) in ALLOWED:
        return
    with pytest.raises(ValueError, match="Validation error") as refused:
        copier.run_copy(
            str(template), tmp_path, data={name: value}, defaults=True, settings=copier.Settings()
        )
    assert str(refused.value) == REFUSAL.format(name, str(refused.value).partition(": ")[2])
    assert len(str(refused.value)) <= 80
