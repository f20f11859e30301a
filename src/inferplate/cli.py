"""The command line. What a command needs beyond the questions is imported when it runs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from inferplate.errors import InferplateError
from inferplate.options import (
    Covering,
    Framework,
    Runtime,
    Server,
    Task,
    choice_of,
    selected_variants,
    values_of_questions,
)
from inferplate.template.questions import AXES, axis_choices, read_choices, read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, github_matrix

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _other_answers() -> str:
    """List the questions without an option of their own, and what they take."""
    others = {name: values for name, values in values_of_questions().items() if name not in AXES}
    listed = (f"{name} ({values})" if values else name for name, values in others.items())
    return f"Answer another question; repeatable: {', '.join(listed)}."


Source = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Take the template from here, and record it: a mirror, a fork, a folder or a bundle.",
    ),
]


def _be_quiet(quiet: bool) -> bool:
    from inferplate.progress import show_steps

    show_steps(wanted=not quiet)
    return quiet


Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", callback=_be_quiet, help="Print nothing unless it fails."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def _complete_setting(incomplete: str) -> list[str]:
    """Complete ``KEY=VALUE``: the questions first, then the choices of one."""
    name, equals, value = incomplete.partition("=")
    questions = read_questions(template_root())
    if not equals:
        asked = [key for key, question in questions.items() if question.get("when") is not False]
        return [f"{key}=" for key in asked if key.startswith(name)]
    choices = read_choices(questions.get(name, {}).get("choices", ()))
    found = [choice.value for choice in choices if choice.value.startswith(value)]
    return [f"{name}={one}" for one in found]


def _complete_version(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a version of the template of the project that the command names."""
    from inferplate.project.project import Project, nearest
    from inferplate.template.releases import released

    try:
        tags = released(Project.read(nearest(Path(context.params.get("directory") or "."))).origin)
    except InferplateError:
        return []
    return [tag for tag in reversed(tags) if tag.startswith(incomplete)]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"inferplate {version('inferplate')}")
        raise typer.Exit


@app.callback()
def inferplate(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Make and update inference services for any framework, runtime and server.

    Exit codes: 0 done; 1 refused, failed, or conflicts left; 2 wrong usage; 130 interrupted.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("new")
def new_project(
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="The folder; it may have files of yours.")
    ],
    framework: Annotated[str | None, choice_of("framework", "The web framework.")] = None,
    runtime: Annotated[str | None, choice_of("runtime", "The model runtime.")] = None,
    server: Annotated[str | None, choice_of("server", "The server.")] = None,
    task: Annotated[str | None, choice_of("task", "What goes in, and what comes out.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TITLE", help="The title of the service. [default: from the folder's name]"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help=_other_answers(),
            autocompletion=_complete_setting,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take answers from YAML, such as another .copier-answers.yml."
        ),
    ] = None,
    defaults: Annotated[
        bool,
        typer.Option("-y", "--defaults", help="Ask nothing, and take the defaults for the rest."),
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep files that are there, instead of the template's."),
    ] = False,
    git: Annotated[
        bool,
        typer.Option(
            "--git/--no-git",
            help="Make it a git repository with a first commit, unless it is in one.",
        ),
    ] = True,
    ref: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Version of the template, from its repository. [default: the installed one]",
        ),
    ] = None,
    source: Source = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a service. Ask for the answers that the options do not give.

    The command checks the answers before it asks or writes anything. It overwrites no file that is
    there. If it fails, or at Ctrl-C, it leaves nothing behind.
    """
    from inferplate.commands.new import new
    from inferplate.template.answers import read_file

    axes = {"framework": framework, "runtime": runtime, "server": server, "task": task}
    named = _answers(settings, {"project_name": name, **axes})
    given = {**(read_file(answers) if answers else {}), **named}
    made = new(
        destination,
        given,
        ref,
        source=source,
        defaults=defaults or as_json,
        keep=keep,
        git=git,
    )
    if as_json:
        _print_json(made.document())
    elif not quiet:
        for line in (*made.remarks, made.message):
            typer.echo(line)


@app.command("update")
def update_project(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The project, or a folder in it.")
    ] = Path(),
    framework: Annotated[
        str | None, choice_of("framework", "Switch to this web framework.")
    ] = None,
    runtime: Annotated[str | None, choice_of("runtime", "Switch to this model runtime.")] = None,
    server: Annotated[str | None, choice_of("server", "Switch to this server.")] = None,
    task: Annotated[str | None, choice_of("task", "Switch to this task.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help=_other_answers().replace("Answer", "Change"),
            autocompletion=_complete_setting,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Version, branch or commit to update to. "
            "[default: the newest; with other answers, the same]",
            autocompletion=_complete_version,
        ),
    ] = None,
    source: Source = None,
    defaults: Annotated[
        bool,
        typer.Option("-y", "--defaults", help="Ask nothing, and take the defaults of what is new."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, but change nothing.")
    ] = False,
    allow_delete: Annotated[
        bool,
        typer.Option(
            "--allow-delete",
            help="Delete files that you edited, if the template no longer has them.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--continue", help="Check that you have resolved all conflicts, and run 'make test'."
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Update a project to a newer version or to other answers.

    It asks the questions that are new; without a terminal it takes their defaults, and lists them.

    The command merges your edits. It writes the result to the work tree, for you to look at and to
    commit. If conflicts are left, it lists them and exits with 1. If it fails for another reason,
    the project is as before.
    """
    from rich.console import Console

    from inferplate.commands.resume import check_resolved, run_suite
    from inferplate.commands.update import update
    from inferplate.project.project import Project, nearest

    console = Console(quiet=quiet or as_json)
    axes = {"framework": framework, "runtime": runtime, "server": server, "task": task}
    switch = _answers(settings, axes)
    if resume:
        if switch or to or source or defaults or dry_run or allow_delete or as_json:
            raise InferplateError("--continue cannot be combined with other options")
        project = Project.read(nearest(directory))
        check_resolved(project)
        run_suite(project)
        console.print(
            f"The update is complete and the tests pass: commit the update to {project.version}."
        )
        return
    plan = update(
        nearest(directory),
        switch,
        to,
        source=source,
        dry_run=dry_run,
        allow_delete=allow_delete,
        ask=not (defaults or dry_run or as_json) and sys.stdin.isatty(),
        console=console,
    )
    if as_json:
        _print_json({**plan.document(), "dry_run": dry_run})
    elif quiet and plan.conflicts and not dry_run:
        raise InferplateError(
            f"conflicts are left in {', '.join(plan.conflicts)}: resolve them, "
            "then run 'inferplate update --continue'"
        )
    raise typer.Exit(1 if plan.conflicts and not dry_run else 0)


@app.command("status")
def show_status(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The project, or a folder in it.")
    ] = Path(),
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with 1 unless it is the newest version."),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show the version, the answers, your edits and your files."""
    from rich.console import Console

    from inferplate.commands.status import status
    from inferplate.project.project import Project, nearest

    found = status(Project.read(nearest(directory)))
    if as_json:
        _print_json(found.document())
    elif not quiet:
        Console().print(found.table())
    if check and not found.up_to_date:
        raise typer.Exit(1)


@app.command("variants")
def list_variants(
    framework: Framework = None,
    runtime: Runtime = None,
    server: Server = None,
    task: Task = None,
    covering: Covering = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every combination, not only the choices.")
    ] = False,
    as_json: AsJson = False,
    as_matrix: Annotated[
        bool, typer.Option("--github", help="Print the matrix of a GitHub workflow.")
    ] = False,
) -> None:
    """List the choices of the template, or their combinations.

    Without options it lists the choices. With any, it lists the combinations that they leave.
    """
    if as_json and as_matrix:
        raise InferplateError("give --json or --github, not both")
    found = selected_variants(framework, runtime, server, task, only_covering=covering)
    if as_matrix:
        import json

        typer.echo(json.dumps(github_matrix(found)))
    elif as_json:
        _print_json([{"variant": variant.name, **variant.answers()} for variant in found])
    elif every or covering or framework or runtime or server or task:
        _print_variants(found)
    else:
        _print_choices(len(found))


def _answers(settings: list[str] | None, options: Mapping[str, str | None]) -> dict[str, str]:
    """Combine the answers that are given with ``--set`` and with their own options."""
    from inferplate.template.answers import split_answers

    by_option = {name: given for name, given in options.items() if given is not None}
    by_key = split_answers(settings or [])
    if twice := by_option.keys() & by_key.keys():
        raise InferplateError(f"{min(twice)} is given twice, with an option and with --set")
    return by_key | by_option


def _print_json(document: Any) -> None:
    import json

    typer.echo(json.dumps(document, indent=2))


def _print_choices(combinations: int) -> None:
    for axis, choices in axis_choices(read_questions(template_root())).items():
        typer.echo(f"{axis}:")
        width = max(len(choice.value) for choice in choices)
        for choice in choices:
            about = choice.label.partition(": ")[2] or choice.label
            typer.echo(f"  {choice.value:<{width}}  {about}")
    typer.echo(f"\n{combinations} combinations; --all lists them.")


def _print_variants(found: list[Variant]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(found)} combinations")
    for axis in AXES:
        table.add_column(axis, overflow="fold")
    for variant in found:
        table.add_row(*variant.answers().values())
    Console().print(table)
