"""Reads answers that are given as text, for the questions of a template."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from inferplate.errors import InferplateError, unknown
from inferplate.matrix import read_choices, read_questions


def split_answers(given: Iterable[str]) -> dict[str, str]:
    """Split what is given as ``KEY=VALUE``.

    Raises:
        InferplateError: there is no ``=`` in it.
    """
    pairs = {text: text.partition("=") for text in given}
    for text, (_, equals, _) in pairs.items():
        if not equals:
            raise InferplateError(f"{text!r} is not an answer: give it as KEY=VALUE")
    return {name.strip(): value for name, _, value in pairs.values()}


def read_version(template: Path, version: str) -> dict[str, Any]:
    """Read the questions of a version of the template, which lies in a folder.

    Raises:
        InferplateError: it has none that can be read.
    """
    try:
        return read_questions(template)
    except InferplateError as error:
        reason = str(error).replace(f"{template}/", "")
        raise InferplateError(f"{version} has no questions: {reason}") from error


def read_answers(given: Mapping[str, str], questions: Mapping[str, Any]) -> dict[str, Any]:
    """Turn each text into what its question takes.

    Several choices are given with commas between them, or as YAML.

    Raises:
        InferplateError: a question is not asked, or an answer is none of its choices.
    """
    asked = [name for name, question in questions.items() if question.get("when") is not False]
    answers = {}
    for name, text in given.items():
        if name not in asked:
            raise unknown("answer", name, asked)
        value = _typed(name, text, questions[name])
        known = [choice.value for choice in read_choices(questions[name].get("choices", ()))]
        for one in value if isinstance(value, list) else [value]:
            if known and str(one) not in known:
                raise unknown(name, str(one), known)
        answers[name] = value
    return answers


def _typed(name: str, text: str, question: Mapping[str, Any]) -> Any:
    if question.get("multiselect"):
        return [part.strip() for part in text.strip("[] ").split(",") if part.strip()]
    if question.get("type") == "str":
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InferplateError(f"{name}={text!r} cannot be read as YAML") from None
