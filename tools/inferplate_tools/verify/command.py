"""``inferplate-verify``: its options, and what is shown while it runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

from inferplate.errors import unknown
from inferplate.options import Covering, Framework, Runtime, Server, Task, selected_variants
from inferplate.signals import interruptible
from inferplate.template.questions import read_questions
from inferplate.template.source import template_root
from inferplate.template.variants import Variant, variants
from inferplate_tools.verify.checks import Check
from inferplate_tools.verify.report import WRITERS, coverage_table, write_report
from inferplate_tools.verify.requirements import require
from inferplate_tools.verify.run import (
    Result,
    default_jobs,
    select_checks,
    verify,
    workbench,
)
from inferplate_tools.workbench import Workbench

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def verify_variants(
    framework: Framework = None,
    runtime: Runtime = None,
    server: Server = None,
    task: Task = None,
    covering: Covering = False,
    jobs: Annotated[
        int, typer.Option(min=0, help="Variants to check in parallel; 0: one for each CPU.")
    ] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the emitted projects, in this empty folder."),
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this check; repeatable.")
    ] = None,
    report: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="json|junit FILE", help="Also write the results to a file."),
    ] = None,
) -> None:
    """Emit combinations and check each of them.

    The checks are format, types, tests, a real server that is asked and stopped, and more. They
    need an environment with every framework, runtime and server. The exit code is 1 if a check
    failed.
    """
    if report and report[0] not in WRITERS:
        raise unknown("report", report[0], list(WRITERS))
    checks = select_checks(check or [])
    found = selected_variants(framework, runtime, server, task, only_covering=covering)
    require(found)
    total = len(variants(read_questions(template_root())))
    if report:
        write_report(*report, [], total)
    with interruptible(), workbench(keep) as bench:
        results = _verify_with_progress(
            bench, found, checks, jobs=jobs or default_jobs(), keep=keep is not None
        )
    if report:
        write_report(*report, results, total)
    _print_results(results, total)
    if any(result.failure is not None for result in results):
        raise typer.Exit(1)


def _verify_with_progress(
    bench: Workbench, found: list[Variant], checks: list[Check], *, jobs: int, keep: bool
) -> list[Result]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, Elapsed(), Remaining(), console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{len(found)} variants", total=len(found) * len(checks))

        def show(result: Result) -> None:
            progress.update(task, advance=1, description=f"{result.variant} {result.check}")
            if result.failure is not None:
                reason = result.failure.partition("\n")[0]
                progress.console.print(
                    f"failed: {result.variant} {result.check}: {reason}", markup=False
                )

        return verify(bench, found, checks, jobs=jobs, keep=keep, report=show)


def _print_results(results: list[Result], total: int) -> None:
    console = Console()
    for result in results:
        if result.failure is not None:
            console.rule(f"{result.variant} {result.check}", align="left")
            console.print(result.failure, markup=False, highlight=False, soft_wrap=True)
    console.print(coverage_table(results, total))
