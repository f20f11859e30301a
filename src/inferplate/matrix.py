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

AXES: Final = ("framework", "runtime", "server")


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
    """One valid combination of framework, runtime and server."""

    framework: str
    runtime: str
    server: str

    @property
    def name(self) -> str:
        return "-".join(self.answers().values())

    def answers(self) -> dict[str, str]:
        return {axis: getattr(self, axis) for axis in AXES}

    def __str__(self) -> str:
        return self.name


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
    """List the choices of framework, runtime and server, in the order of the questions.

    Raises:
        InferplateError: one of the three is not asked.
    """
    missing = [axis for axis in AXES if not (questions.get(axis) or {}).get("choices")]
    if missing:
        raise InferplateError(f"{QUESTIONS} has no choices for {missing[0]}")
    return {axis: list(read_choices(questions[axis]["choices"])) for axis in AXES}


def variants(questions: Mapping[str, Any]) -> list[Variant]:
    """List every combination whose choices are all enabled."""
    choices = axis_choices(questions)
    enabled = _Validators()
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


def covering(found: Sequence[Variant]) -> list[Variant]:
    """Choose few variants that together have every framework, runtime and server.

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
    return chosen


def github_matrix(found: Iterable[Variant]) -> dict[str, list[dict[str, str]]]:
    """Make the matrix of a GitHub Actions job: one entry a variant, with its name."""
    return {"include": [{"variant": variant.name, **variant.answers()} for variant in found]}


class _Validators:
    """Renders the validators of choices, with Jinja imported only where there are any."""

    def __init__(self) -> None:
        self._environment: Any = None

    def accept(self, combination: Sequence[Choice]) -> bool:
        answers: dict[str, str] = {}
        for axis, choice in zip(AXES, combination, strict=True):
            if choice.validator and self._render(choice.validator, answers).strip():
                return False
            answers[axis] = choice.value
        return True

    def _render(self, validator: str, answers: Mapping[str, str]) -> str:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import SandboxedEnvironment

        if self._environment is None:
            self._environment = SandboxedEnvironment(undefined=StrictUndefined)
        try:
            return str(self._environment.from_string(validator).render(answers))
        except TemplateError as error:
            raise InferplateError(f"{QUESTIONS}: the validator {validator!r}: {error}") from None


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
