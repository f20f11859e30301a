"""Shows a run while it goes on, and writes what it found."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from inferplate_tools.bench.models import Model, reference
from inferplate_tools.bench.plots import draw
from inferplate_tools.bench.results import FILE_NAME, Results, as_json
from inferplate_tools.bench.run import Plan, Step, carry_out
from inferplate_tools.bench.services import EXAMPLE
from inferplate_tools.bench.tables import about, grids, markdown, question_grid
from inferplate_tools.workbench import Workbench

_REPORT: Final = "README.md"
_WIDTH_OF_FILES: Final = 120


def run_and_show(plan: Plan, own: Mapping[str, Model], output: Path) -> Results:
    """Carry a plan out, and write results, tables and plots to a folder.

    The results are written after each measurement: what is there survives an interruption.

    ``own``: the models that are the user's, by name.
    """
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH_OF_FILES)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    task = progress.add_task("starting", total=plan.duration())
    with (
        tempfile.TemporaryDirectory(prefix="inferplate-") as folder,
        Live(progress, console=Console(stderr=True), transient=True) as live,
    ):
        bench = Workbench(Path(folder))

        def model_of(name: str) -> Model | None:
            if name == EXAMPLE:
                return None
            return own.get(name) or reference(name, bench.root / "models")

        def watch(step: Step, results: Results) -> None:
            progress.update(task, description=step.text, advance=step.seconds)
            if step.question in results.samples:
                table = question_grid(results, step.question).as_rich()
                live.update(Group(table, progress))
            if step.seconds:
                (output / FILE_NAME).write_text(as_json(results), encoding="utf-8")

        results = carry_out(plan, bench, model_of, watch)
    found = list(grids(results))
    console.print(about(results), markup=False, soft_wrap=True)
    for grid in found:
        console.print(grid.as_rich())
    for failure in results.failures:
        console.print(f"not measured: {failure}", markup=False, soft_wrap=True)
    plots = draw(results, output)
    (output / FILE_NAME).write_text(as_json(results), encoding="utf-8")
    (output / _REPORT).write_text(markdown(results, found, plots), encoding="utf-8")
    return results
