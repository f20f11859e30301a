"""Results for people: tables for the terminal and for Markdown."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from inferplate_tools.bench.load import Open
from inferplate_tools.bench.results import Question, Results, median, ratio

NAIVE: Final = "naive FastAPI"


@dataclass(frozen=True)
class Grid:
    """A table: its title, its columns, and rows of text, the first column the names."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def as_rich(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for position, column in enumerate(self.columns):
            table.add_column(column, justify="right" if position else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        rule = ["---", *["--:"] * (len(self.columns) - 1)]
        lines = [" | ".join(line) for line in (self.columns, rule, *self.rows)]
        return f"**{self.title}**\n\n" + "".join(f"| {line} |\n" for line in lines)


def grids(results: Results) -> Iterator[Grid]:
    """Make the tables of a run: one for each question, then what the servers take."""
    for question in results.samples:
        yield question_grid(results, question)
    if results.footprints:
        yield _footprint_grid(results)


def question_grid(results: Results, question: Question) -> Grid:
    """Compare the contestants on one question: medians over the rounds."""
    found = results.samples.get(question, {})
    baseline = found.get(NAIVE)
    columns = ["", "requests/s", "CPU µs", "p50 ms", "p99 ms", "probe ms", "bad"]
    rows = []
    for name, samples in found.items():
        late = "≥ " if any(sample.late for sample in samples) else ""
        row = [
            name,
            number(median(samples, "rate")),
            number(median(samples, "cpu_us")),
            number(median(samples, "p50_ms")),
            late + number(median(samples, "p99_ms")),
            number(max(sample.probe_ms for sample in samples)),
            str(sum(sample.bad for sample in samples)),
        ]
        if baseline:
            times, _, _ = ratio(baseline, samples, "cpu_us")
            row.append(f"{times:.2f}")
        rows.append(tuple(row))
    if baseline:
        columns.append("times naive")
    alone = results.alone.get((question.model, question.rows))
    if alone and not isinstance(question.load, Open) and question.workers == 1:
        rate = sorted(alone)[len(alone) // 2]
        empty = ("",) * (len(columns) - 3)
        rows.append(("the model alone", number(rate), number(1e6 / rate), *empty))
    return Grid(str(question), tuple(columns), rows)


def markdown(results: Results, tables: Sequence[Grid], plots: Sequence[str]) -> str:
    """Write the tables of a run, and its plots, as a Markdown document."""
    parts = [f"# Benchmark of {results.started[:10]}", about(results)]
    parts += [f"![{name}]({name})" for name in plots]
    parts += [grid.as_markdown().rstrip() for grid in tables]
    if results.failures:
        failures = "\n".join(f"- {failure}" for failure in results.failures)
        parts.append(f"**Not measured**\n\n{failures}")
    return "\n\n".join(parts) + "\n"


def about(results: Results) -> str:
    """Say in a few lines where and how it was measured."""
    machine = results.machine
    tools = ", ".join(f"{name} {version}" for name, version in results.tools.items())
    cards = ", ".join(machine.get("accelerators", ()))
    return (
        f"{machine['processor']}, {machine['processors']} processors, "
        f"{machine['memory_gib']} GiB, {cards or 'no accelerator'}, {machine['system']}, "
        f"Python {machine['python']}; {tools}. "
        f"{results.rounds} interleaved rounds of {results.seconds} s; medians. "
        "CPU: processor time of the server's process tree per request. "
        "probe: the slowest readiness probe of all rounds. "
        f"times naive: the CPU time of {NAIVE} over this one's, in the same round."
    )


def number(value: float) -> str:
    """Write a figure with three digits, or as many as it has before the point."""
    if not math.isfinite(value):
        return "none" if math.isinf(value) else "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _footprint_grid(results: Results) -> Grid:
    columns = ("", "model", "workers", "ready s", "idle RSS MB", "RSS MB after load")
    rows = [
        (
            footprint.contestant,
            footprint.model,
            str(footprint.workers),
            f"{footprint.ready_seconds:.2f}",
            number(footprint.idle_mb),
            number(footprint.loaded_mb),
        )
        for footprint in results.footprints
    ]
    return Grid("Start and memory", columns, rows)
