"""The variants that copier.yml offers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferplate.errors import InferplateError
from inferplate.matrix import (
    AXES,
    Variant,
    axis_choices,
    covering,
    github_matrix,
    read_questions,
    select,
    variants,
)
from inferplate.render import render
from inferplate.source import template_root

QUESTIONS = read_questions(template_root())
FOLDERS = {
    "framework": template_root() / "template",
    "runtime": template_root() / "template/runtimes",
    "server": template_root() / "template/servers",
}
FITS_80_COLUMNS = 76
MARKS = {"framework": "app.py", "runtime": "runtime.py", "server": "server.py"}


def test_all_combinations_are_offered() -> None:
    found = variants(QUESTIONS)
    assert len(found) == len(set(found)) == 3 * 8 * 4


@pytest.mark.parametrize("axis", AXES)
def test_every_choice_has_a_folder_and_every_folder_a_choice(axis: str) -> None:
    choices = {choice.value for choice in axis_choices(QUESTIONS)[axis]}
    folders = {
        path.parents[2].name for path in FOLDERS[axis].glob(f"*/src/service/{MARKS[axis]}*")
    } - {"service"}
    assert choices == folders


def test_every_choice_says_when_to_take_it() -> None:
    for name in (*AXES, "ci", "deploy"):
        for label in QUESTIONS[name]["choices"]:
            title, _, advice = label.partition(": ")
            assert title, label
            assert len(advice) > 10, label
            assert len(label) <= FITS_80_COLUMNS, label


def test_a_covering_set_has_every_choice_and_no_more_than_needed() -> None:
    chosen = covering(variants(QUESTIONS))
    for axis in AXES:
        values = {getattr(variant, axis) for variant in chosen}
        assert values == {choice.value for choice in axis_choices(QUESTIONS)[axis]}
    assert len(chosen) == 8


def test_selection_keeps_what_was_asked_for() -> None:
    wanted = {"framework": ["ninja"], "runtime": ["python", "openvino"], "server": []}
    selected = select(variants(QUESTIONS), wanted, axis_choices(QUESTIONS))
    assert len(selected) == 8
    assert {variant.framework for variant in selected} == {"ninja"}


def test_an_unknown_value_is_answered_with_the_nearest() -> None:
    with pytest.raises(InferplateError, match="unknown runtime 'onyxruntime': did you mean 'onnx"):
        select(variants(QUESTIONS), {"runtime": ["onyxruntime"]}, axis_choices(QUESTIONS))


def test_github_matrix_has_an_entry_for_each_variant() -> None:
    variant = Variant("ninja", "python", "granian")
    assert github_matrix([variant]) == {
        "include": [
            {
                "variant": "ninja-python-granian",
                "framework": "ninja",
                "runtime": "python",
                "server": "granian",
            }
        ]
    }


@pytest.fixture
def partly_disabled(template: Path, tmp_path: Path) -> Path:
    """Disable hypercorn under Django Ninja in a copy of the template."""
    questions: dict[str, Any] = yaml.safe_load((template / "copier.yml").read_bytes())
    choices = questions["server"]["choices"]
    label = next(label for label, value in choices.items() if value == "hypercorn")
    reason = "{% if framework == 'ninja' %}hypercorn does not suit Django Ninja{% endif %}"
    choices[label] = {"value": "hypercorn", "validator": reason}
    copy = tmp_path / "disabled"
    copy.mkdir()
    (copy / "copier.yml").write_text(yaml.safe_dump(questions, sort_keys=False), encoding="utf-8")
    shutil.copytree(template / "template", copy / "template")
    return copy


def test_disabled_choices_are_no_variants(partly_disabled: Path) -> None:
    found = variants(read_questions(partly_disabled))
    assert len(found) == 88
    assert not [variant for variant in found if variant.name.endswith("ninja-hypercorn")]
    with pytest.raises(InferplateError, match="disables all of these combinations"):
        select(
            found,
            {"framework": ["ninja"], "server": ["hypercorn"]},
            axis_choices(read_questions(partly_disabled)),
        )


def test_copier_refuses_the_same_combinations(partly_disabled: Path, tmp_path: Path) -> None:
    answers = {"framework": "ninja", "server": "hypercorn"}
    with pytest.raises(InferplateError, match="hypercorn does not suit Django Ninja"):
        render(partly_disabled, tmp_path / "refused", answers)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "holds no questions"),
        ("framework: [", "is not YAML"),
        ("framework: {choices: [fastapi]}", "has no choices for runtime"),
    ],
)
def test_questions_that_cannot_be_read_are_told_in_one_line(
    document: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "copier.yml").write_text(document, encoding="utf-8")
    with pytest.raises(InferplateError, match=reason) as caught:
        variants(read_questions(tmp_path))
    assert "\n" not in str(caught.value)


def test_without_a_template_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InferplateError, match="cannot read"):
        read_questions(tmp_path)
