"""Plots as SVG, the same bytes for the same results."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from inferplate_tools.bench.load import Closed, Open, Sample
from inferplate_tools.bench.results import Question, Results, median

_SETTINGS: Final[dict[Any, Any]] = {
    "svg.hashsalt": "inferplate",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_OURS: Final = "#2a6f97"
_OTHERS: Final = "#b0b0b0"


def draw(results: Results, folder: Path) -> list[str]:
    """Draw throughput and CPU time of each closed loop, and latency by load of the open ones.

    Returns:
        The names of the files written.
    """
    import matplotlib as mpl

    mpl.use("svg")
    names = []
    with mpl.rc_context(_SETTINGS):
        for question, found in results.samples.items():
            if isinstance(question.load, Closed):
                names.append(_save(_bars(question, found, results), folder, question.slug))
        for slug, series in _by_load(results).items():
            names.append(_save(_curves(series, results), folder, slug))
    return names


def _bars(question: Question, found: dict[str, list[Sample]], results: Results) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = sorted(found, key=lambda name: -median(found[name], "cpu_us"))
    figure = Figure(figsize=(8, 1 + 0.3 * len(names)), layout="constrained")
    figure.suptitle(str(question))
    panels = figure.subplots(1, 2, sharey=True)
    colours = [_OTHERS if name in results.peers else _OURS for name in names]
    for axes, figure_name, label in (
        (panels[0], "cpu_us", "CPU µs per request (less is better)"),
        (panels[1], "rate", "requests per second (more is better)"),
    ):
        values = [median(found[name], figure_name) for name in names]
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, labels=[f" {value:,.0f}" for value in values])
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel(label)
    return figure


def _curves(series: dict[str, list[tuple[Question, list[Sample]]]], results: Results) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    (question, _), *_ = next(iter(series.values()))
    figure.suptitle(f"{question.model}, {question.wire}")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, percentile in zip(panels, ("p50_ms", "p99_ms"), strict=True):
        for number, (name, points) in enumerate(series.items()):
            points = sorted(points, key=lambda point: _rate(point[0]))
            rates = [_rate(question) for question, _ in points]
            values = [median(samples, percentile) for _, samples in points]
            width = 1 if name in results.peers else 3
            axes.plot(rates, values, marker=".", color=_colour(number), lw=width, label=name)
        axes.set_title(percentile.removesuffix("_ms"))
        axes.set_xlabel("requests per second offered")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    panels[0].set_ylabel("latency in ms")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _colour(number: int) -> Any:
    """Return one of twenty colours, the strong ones first."""
    import matplotlib as mpl

    return mpl.colormaps["tab20"](2 * number % 20 + number // 10 % 2)


def _by_load(
    results: Results,
) -> dict[str, dict[str, list[tuple[Question, list[Sample]]]]]:
    found: dict[str, dict[str, list[tuple[Question, list[Sample]]]]] = {}
    for question, by_contestant in results.samples.items():
        if isinstance(question.load, Open):
            series = found.setdefault(question.slug, defaultdict(list))
            for name, samples in by_contestant.items():
                series[name].append((question, samples))
    return found


def _rate(question: Question) -> float:
    return question.load.rate if isinstance(question.load, Open) else 0.0


def _save(figure: Any, folder: Path, name: str) -> str:
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path.name
