"""The variants that the template offers, read from the questions in ``copier.yml`` alone."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

from inferplate.errors import InferplateError, unknown
from inferplate.source import QUESTIONS

AXES: Final = ("framework", "runtime", "server", "task")
_FIRST_TASKS: Final = {"transformers": "text"}
"""By runtime, where it is not the first of all."""


WITHOUT_HANDLER: Final = "none"
"""The task of services with the protocol alone, which have the example of another task."""


@dataclass(frozen=True)
class Choice:
    """One answer to a question.

    ``validator``: a Jinja expression that gives the reason where the choice is disabled.
    """

    label: str
    value: str
    validator: str = ""


@dataclass(frozen=True)
class Variant:
    """One valid combination of framework, runtime, server and task.

    Without a task it has the first of its runtime, which its name leaves out.
    """

    framework: str
    runtime: str
    server: str
    task: str = ""

    def __post_init__(self) -> None:
        if not self.task:
            object.__setattr__(self, "task", _first_task(self.runtime))

    @property
    def name(self) -> str:
        parts = (self.framework, self.runtime, self.server)
        return "-".join(parts if self.has_first_task else (*parts, self.task))

    @property
    def has_first_task(self) -> bool:
        return self == Variant(self.framework, self.runtime, self.server)

    @property
    def example(self) -> str:
        """The task whose model is the example: a folder of ``template/examples``."""
        return _first_task(self.runtime) if self.task == WITHOUT_HANDLER else self.task

    def answers(self) -> dict[str, str]:
        return {axis: getattr(self, axis) for axis in AXES}

    def __str__(self) -> str:
        return self.name


def _first_task(runtime: str) -> str:
    return _FIRST_TASKS.get(runtime, "tabular")


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


def variants(questions: Mapping[str, Any]) -> list[Variant]:
    """List every combination whose choices are all enabled."""
    choices = axis_choices(questions)
    enabled = _Templates()
    return [
        Variant(*(choice.value for choice in combination))
        for combination in product(*choices.values())
        if enabled.accept(combination)
    ]


def select(
    found: Sequence[Variant], wanted: Mapping[str, Collection[str]], choices: Mapping[str, Any]
) -> list[Variant]:
    """Keep the variants that have one of the wanted values on every axis that names any.

    Raises:
        InferplateError: a value is not a choice of its axis, or all its combinations are disabled.
    """
    for axis, values in wanted.items():
        known = [choice.value for choice in choices[axis]]
        for value in values:
            if value not in known:
                raise unknown(axis, value, known)
    selected = [
        variant
        for variant in found
        if all(not values or getattr(variant, axis) in values for axis, values in wanted.items())
    ]
    if not selected:
        raise InferplateError("the template disables all of these combinations: choose others")
    return selected


def refusal(questions: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return why a choice of an axis does not go with the others; an empty text if all do.

    ``answers``: may lack some, and have others; a choice that depends on one that is missing goes.
    """
    templates = _Templates()
    for axis, choices in axis_choices(questions).items():
        for choice in choices:
            reason = templates.render(choice.validator, answers)
            if reason and choice.value == answers.get(axis):
                return f"{axis}={choice.value}: {reason}"
    return ""


def is_asked(question: Mapping[str, Any], answers: Mapping[str, Any]) -> bool:
    """Return whether a question is asked, by its ``when``, as far as the answers tell."""
    when = question.get("when", True)
    return _Templates().render(when, answers) != "False" if isinstance(when, str) else bool(when)


def served(found: Sequence[Variant]) -> list[Variant]:
    """Choose the variants that are started and asked wherever not all of them are.

    They are all with the first task of their runtime. Of each further task they have every runtime
    and every server with each framework, in no more variants than that needs.
    """
    chosen = dict.fromkeys(variant for variant in found if variant.has_first_task)
    for task in dict.fromkeys(variant.task for variant in found):
        further = [variant for variant in found if variant.task == task and variant not in chosen]
        for framework in dict.fromkeys(variant.framework for variant in further):
            chosen |= dict.fromkeys(
                covering([variant for variant in further if variant.framework == framework])
            )
    return [variant for variant in found if variant in chosen]


def covering(found: Sequence[Variant]) -> list[Variant]:
    """Choose few variants that together have every framework, runtime, server and task.

    The choice is the same on every call, and spreads over the pairs rather than repeating one.
    """
    remaining = {(axis, getattr(variant, axis)) for variant in found for axis in AXES}
    used: Counter[tuple[str, str]] = Counter()
    chosen: list[Variant] = []
    while remaining:
        best = max(
            found,
            key=lambda variant: (
                len(remaining & set(variant.answers().items())),
                -sum(used[item] for item in variant.answers().items()),
            ),
        )
        chosen.append(best)
        used.update(best.answers().items())
        remaining -= set(best.answers().items())
    for variant in reversed(chosen):
        if all(used[item] > 1 for item in variant.answers().items()):
            chosen = [each for each in chosen if each != variant]
            used.subtract(variant.answers().items())
    return chosen


def github_matrix(found: Iterable[Variant]) -> dict[str, list[dict[str, str]]]:
    """Make the matrix of a GitHub Actions job: one entry a variant, with its name."""
    return {"include": [{"variant": variant.name, **variant.answers()} for variant in found]}


class _Templates:
    """Renders the templates of questions, with Jinja imported only where there are any."""

    def __init__(self) -> None:
        self._environment: Any = None

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
            return str(self._environment.from_string(template).render(answers)).strip()
        except UndefinedError:
            return ""
        except TemplateError as error:
            message = f"{QUESTIONS}: the template {template!r}: {error}"
            raise InferplateError(message) from None


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
