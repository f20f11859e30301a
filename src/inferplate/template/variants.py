"""The variants that the template offers: the combinations of choices that it enables."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from inferplate.errors import InferplateError, unknown
from inferplate.template.questions import AXES, Templates, axis_choices

_FIRST_TASKS: Final = {"transformers": "text"}
"""By runtime, where it is not the first of all."""
WITHOUT_HANDLER: Final = "none"
"""The task of services with the protocol alone, which have the example of another task."""


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


def variants(questions: Mapping[str, Any]) -> list[Variant]:
    """List every combination whose choices are all enabled."""
    choices = axis_choices(questions)
    enabled = Templates()
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
