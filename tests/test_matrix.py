"""The variants that copier.yml offers."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferplate.errors import InferplateError
from inferplate.template.questions import AXES, axis_choices, is_asked, read_questions, refusal
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import (
    WITHOUT_HANDLER,
    Variant,
    covering,
    github_matrix,
    select,
    served,
    variants,
)
from inferplate_tools.verify.hygiene import tree

QUESTIONS = read_questions(template_root())
FOLDERS = {
    "framework": template_root() / "template",
    "runtime": template_root() / "template/runtimes",
    "server": template_root() / "template/servers",
    "task": template_root() / "template/examples",
}
FITS_80_COLUMNS = 76
MARKS = {
    "framework": "app.py",
    "runtime": "runtime.py",
    "server": "server.py",
    "task": "predict.py",
}


def test_all_combinations_are_offered() -> None:
    found = variants(QUESTIONS)
    with_a_task = 9 + 3 + 2  # each runtime; images; embeddings
    assert len(found) == len(set(found)) == 3 * (with_a_task + 9) * 4  # and each without a handler


@pytest.mark.parametrize("axis", AXES)
def test_every_choice_has_a_folder_and_every_folder_a_choice(axis: str) -> None:
    choices = {choice.value for choice in axis_choices(QUESTIONS)[axis]}
    folders = {
        path.parents[2].name for path in FOLDERS[axis].glob(f"*/src/service/{MARKS[axis]}*")
    } - {"service"}
    assert choices - {WITHOUT_HANDLER} == folders


def test_a_task_is_trained_for_the_runtimes_that_have_it() -> None:
    examples = template_root() / "template/examples"
    trained = {path.parent.relative_to(examples).parts for path in examples.glob("*/*/train.py")}
    assert trained == {(variant.example, variant.runtime) for variant in variants(QUESTIONS)}
    for folder in trained:
        held = {path.name for path in examples.joinpath(*folder).iterdir()}
        assert held >= {"facts.jinja", "golden.json", "train.py"}
        assert held <= {"facts.jinja", "golden.json", "train.py", "own_predict.py", "src"}


def test_a_runtime_has_the_first_task_that_copier_takes(template: Path, tmp_path: Path) -> None:
    found = variants(QUESTIONS)
    for runtime in dict.fromkeys(variant.runtime for variant in found):
        tasks = [variant.task for variant in found if variant.runtime == runtime]
        first = Variant("fastapi", runtime, "uvicorn")
        assert first.task == tasks[0]
        answers = {"framework": "fastapi", "runtime": runtime, "server": "uvicorn"}
        by_default = tree(render(template, tmp_path / runtime / "default", answers))
        given = tree(render(template, tmp_path / runtime / "given", first.answers()))
        assert by_default == given
        recorded = b"task: " in by_default[".copier-answers.yml"]
        assert recorded == is_asked(QUESTIONS["task"], answers) == (len({*tasks}) > 1)


def test_names_leave_out_the_first_task() -> None:
    assert Variant("fastapi", "transformers", "uvicorn", "text").name == (
        "fastapi-transformers-uvicorn"
    )
    assert Variant("fastapi", "python", "uvicorn").name == "fastapi-python-uvicorn"
    assert Variant("fastapi", "python", "uvicorn", "image").name == "fastapi-python-uvicorn-image"


OF_TWO_TASKS = [
    Variant(framework, runtime, server, task)
    for framework in ("fastapi", "ninja")
    for runtime in ("onnxruntime", "pytorch", "xgboost")
    for server in ("uvicorn", "granian", "gunicorn", "hypercorn")
    for task in ("tabular", "image")
    if (runtime, task) != ("xgboost", "image")
]


def test_of_a_further_task_each_framework_serves_with_every_runtime_and_server() -> None:
    chosen = served(OF_TWO_TASKS)
    first = [variant for variant in chosen if variant.has_first_task]
    further = [variant for variant in chosen if not variant.has_first_task]
    assert first == [variant for variant in OF_TWO_TASKS if variant.task == "tabular"]
    assert len(further) == 2 * 4
    for axis, count in (("runtime", 2 * 2), ("server", 2 * 4)):
        assert len({(each.framework, getattr(each, axis)) for each in further}) == count


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"runtime": "xgboost", "task": "text"}, "task=text: needs the runtime transformers"),
        ({"runtime": "transformers", "task": "tabular"}, "task=tabular: transformers takes texts"),
        ({"runtime": "xgboost", "task": "image"}, "task=image: needs onnxruntime, pytorch or"),
        ({"runtime": "pytorch", "task": "embedding"}, "task=embedding: needs onnxruntime or"),
        ({"runtime": "transformers", "task": "text"}, ""),
        ({"runtime": "transformers", "task": "embedding"}, ""),
        ({"runtime": "openvino", "task": "image"}, ""),
        ({"task": "text"}, ""),
        ({"runtime": "xgboost"}, ""),
    ],
    ids=[
        *("text", "tabular", "image", "embedding", "text fits", "embedding fits", "image fits"),
        *("no runtime yet", "no task yet"),
    ],
)
def test_answers_that_do_not_fit_are_refused_with_the_reason(
    answers: dict[str, str], reason: str, template: Path, tmp_path: Path
) -> None:
    found = refusal(QUESTIONS, answers)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    if reason:
        with pytest.raises(InferplateError, match=re.escape(found.partition(": ")[2])):
            render(template, tmp_path / "refused", answers)


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
    assert len(chosen) == 9


def test_selection_keeps_what_was_asked_for() -> None:
    wanted = {"framework": ["ninja"], "runtime": ["python", "openvino"], "server": []}
    selected = select(variants(QUESTIONS), wanted, axis_choices(QUESTIONS))
    assert len(selected) == 5 * 4  # Python with two tasks, OpenVINO with three
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
                "task": "tabular",
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
    assert len(found) == len(variants(QUESTIONS)) * 11 // 12
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
