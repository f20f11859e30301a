"""The questions of the template, read from ``copier.yml``: what is asked, and what it takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from inferplate.errors import InferplateError
from inferplate.template.source import QUESTIONS

AXES: Final = ("framework", "runtime", "server", "task")


@dataclass(frozen=True)
class Choice:
    """One answer to a question.

    ``validator``: a Jinja expression that gives the reason where the choice is disabled.
    """

    label: str
    value: str
    validator: str = ""


def read_questions(root: Path) -> dict[str, Any]:
    """Read the questions of a template, without the settings that begin with an underscore.

    Raises:
        InferplateError: there is no template, or its questions are not a mapping.
    """
    path = root / QUESTIONS
    try:
        document = yaml.load(path.read_bytes(), _fast_loader())  # noqa: S506 - a safe loader
    except OSError as error:
        raise InferplateError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InferplateError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InferplateError(f"{path} holds no questions")
    return {name: question for name, question in document.items() if not name.startswith("_")}


def axis_choices(questions: Mapping[str, Any]) -> dict[str, list[Choice]]:
    """List the choices of framework, runtime, server and task, in the order of the questions.

    The task may be missing: the first versions did not ask for it.

    Raises:
        InferplateError: another of the four is not asked.
    """
    asked = [axis for axis in AXES if axis != "task" or axis in questions]
    missing = [axis for axis in asked if not (questions.get(axis) or {}).get("choices")]
    if missing:
        raise InferplateError(f"{QUESTIONS} has no choices for {missing[0]}")
    return {axis: list(read_choices(questions[axis]["choices"])) for axis in asked}


def refusal(questions: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return why a choice does not go with the other answers; an empty text if all do.

    ``answers``: may lack some, and have others; a choice that depends on one that is missing goes.
    """
    templates = Templates()
    for name, question in questions.items():
        for choice in read_choices(question.get("choices", ())):
            if choice.value != answers.get(name):
                continue
            if reason := templates.render(choice.validator, answers):
                return f"{name}={choice.value}: {reason}"
    return ""


def is_asked(question: Mapping[str, Any], answers: Mapping[str, Any]) -> bool:
    """Return whether a question is asked, by its ``when``, as far as the answers tell."""
    when = question.get("when", True)
    return Templates().render(when, answers) != "False" if isinstance(when, str) else bool(when)


def read_choices(declared: Any) -> Iterator[Choice]:
    """Read the choices of a question: a mapping, a list of pairs, or a list of values."""
    pairs = declared.items() if isinstance(declared, dict) else declared
    for pair in pairs:
        label, value = pair if isinstance(pair, list | tuple) else (pair, pair)
        if isinstance(value, dict):
            yield Choice(str(label), str(value["value"]), value.get("validator", ""))
        else:
            yield Choice(str(label), str(value))


def _fast_loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Templates:
    """Renders the templates of questions, with Jinja imported only where there are any."""

    def __init__(self) -> None:
        self._environment: Any = None
        self._compiled: dict[str, Any] = {}

    def accept(self, combination: Sequence[Choice]) -> bool:
        """Return whether every choice of a combination is enabled."""
        answers: dict[str, str] = {}
        for axis, choice in zip(AXES, combination, strict=False):
            if self.render(choice.validator, answers):
                return False
            answers[axis] = choice.value
        return True

    def render(self, template: str, answers: Mapping[str, Any]) -> str:
        """Render a template; one that needs an answer that is missing is an empty text."""
        if not template:
            return ""
        from jinja2 import StrictUndefined, TemplateError, UndefinedError
        from jinja2.sandbox import SandboxedEnvironment

        if self._environment is None:
            self._environment = SandboxedEnvironment(undefined=StrictUndefined)
        try:
            if template not in self._compiled:
                self._compiled[template] = self._environment.from_string(template)
            return str(self._compiled[template].render(answers)).strip()
        except UndefinedError:
            return ""
        except TemplateError as error:
            message = f"{QUESTIONS}: the template {template!r}: {error}"
            raise InferplateError(message) from None
