"""Options that several commands have: the choices of each axis, and what they select."""

from functools import cache
from typing import Annotated, Any

import typer

from inferplate.errors import InferplateError
from inferplate.template.questions import axis_choices, read_choices, read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, covering, select, variants


@cache
def values_of_questions() -> dict[str, str]:
    """Say for the help what each question that is asked takes; nothing without a template."""
    try:
        questions = read_questions(template_root())
    except InferplateError:  # which the command will tell
        return {}
    return {
        name: ", ".join(choice.value for choice in read_choices(question.get("choices", ())))
        for name, question in questions.items()
        if question.get("when") is not False
    }


def _with_values(help: str, axis: str) -> str:
    return f"{help.rstrip('.')}: {values_of_questions().get(axis, '')}."


def choice_of(axis: str, help: str) -> Any:
    """Make an option for the choices of an axis, which shells can complete."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        choices = axis_choices(read_questions(template_root()))[axis]
        found = [choice for choice in choices if choice.value.startswith(incomplete)]
        return [(choice.value, choice.label) for choice in found]

    return typer.Option(metavar="NAME", help=_with_values(help, axis), autocompletion=complete)


Framework = Annotated[
    list[str] | None, choice_of("framework", "Only this web framework; repeatable.")
]
Runtime = Annotated[list[str] | None, choice_of("runtime", "Only this model runtime; repeatable.")]
Server = Annotated[list[str] | None, choice_of("server", "Only this server; repeatable.")]
Task = Annotated[list[str] | None, choice_of("task", "Only this task; repeatable.")]
Covering = Annotated[
    bool,
    typer.Option(
        "--covering", help="Only a few that cover every framework, runtime, server and task."
    ),
]


def selected_variants(
    framework: list[str] | None,
    runtime: list[str] | None,
    server: list[str] | None,
    task: list[str] | None,
    *,
    only_covering: bool,
) -> list[Variant]:
    questions = read_questions(template_root())
    axes = {"framework": framework, "runtime": runtime, "server": server, "task": task}
    wanted = {axis: values or [] for axis, values in axes.items()}
    found = select(variants(questions), wanted, axis_choices(questions))
    return covering(found) if only_covering else found
