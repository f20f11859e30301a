"""Reads answers that are given as text, for the questions of a template."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from inferplate.errors import InferplateError, unknown
from inferplate.template.questions import AXES, read_choices, read_questions


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


def read_file(path: Path) -> dict[str, Any]:
    """Read answers from a file of YAML; what Copier records beside answers is left out.

    Raises:
        InferplateError: it cannot be read, or is not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InferplateError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InferplateError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InferplateError(f"{path} has no answers: give one on each line, as KEY: VALUE")
    return {str(key): value for key, value in document.items() if not str(key).startswith("_")}


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


def read_answers(given: Mapping[str, Any], questions: Mapping[str, Any]) -> dict[str, Any]:
    """Turn each text into what its question takes; what is not a text is as from a file.

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


def derived_answers(answers: Mapping[str, Any], questions: Mapping[str, Any]) -> set[str]:
    """Name the answers that are still what their questions derive from other answers."""
    from jinja2 import StrictUndefined, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined)
    derived = set()
    for name, answer in answers.items():
        default = questions[name].get("default")
        if isinstance(default, str) and "{{" in default:
            with suppress(UndefinedError):
                if environment.from_string(default).render(answers) == answer:
                    derived.add(name)
    return derived


def no_longer_allowed(answers: Mapping[str, Any], questions: Mapping[str, Any]) -> str:
    """Return a line on the first answer that is no longer a choice; empty if all still are."""
    for name, answer in answers.items():
        known = [choice.value for choice in read_choices(questions[name].get("choices", ()))]
        given = answer if isinstance(answer, list) else [answer]
        if gone := [str(one) for one in given if known and str(one) not in known]:
            option = f"--{name} NAME" if name in AXES else f"--set {name}=VALUE"
            choices = ", ".join(known)
            return f"no longer has {name} {gone[0]!r}: choose another with {option}: {choices}"
    return ""


def _typed(name: str, text: Any, question: Mapping[str, Any]) -> Any:
    if isinstance(text, list) and question.get("multiselect"):
        return [str(one) for one in text]
    if isinstance(text, list | dict) or text is None:
        raise InferplateError(f"{name} takes one text, not {text!r}")
    text = str(text)
    if question.get("multiselect"):
        return [part.strip() for part in text.strip("[] ").split(",") if part.strip()]
    if question.get("type") == "str":
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InferplateError(f"{name}={text!r} cannot be read as YAML") from None
