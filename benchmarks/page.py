"""Write the tables of docs/benchmarks.md anew from the raw data beside it.

    .venv/bin/python benchmarks/page.py [--run FOLDER]

A table stands between ``<!-- figures: NAME FILE -->`` and ``<!-- end of NAME -->``; the file is
relative to ``docs/``. ``--run`` takes a folder of ``docs/benchmarks/``, as `publish.py` fills it:
the tables that it has the raw data of are made from it from now on.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from targets import BARE, BASELINES, targets_grid

from inferplate_tools.bench.load import Closed, Sample
from inferplate_tools.bench.results import Results, median, ratio, read
from inferplate_tools.bench.tables import NAIVE, number

PAGE: Final = Path(__file__).parents[1] / "docs/benchmarks.md"
SERVICES: Final = {"fastapi": "FastAPI", "litestar": "Litestar", "ninja": "Django Ninja"}
MIB: Final = 2**20

_BLOCK: Final = re.compile(
    r"<!-- figures: (?P<name>\w+) (?P<file>\S+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL
)

Row = Sequence[str]


def table(head: Row, rows: Iterator[Row] | Sequence[Row]) -> str:
    """Write a table in Markdown; all columns but the first are right-aligned."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def samples(
    results: Results,
    contestant: str,
    model: str,
    connections: int,
    *,
    wire: str = "json",
    rows: int = 1,
    workers: int = 1,
) -> list[Sample]:
    """Return what a contestant showed on one question, nothing if it was not asked."""
    asked = {"model": model, "wire": wire, "rows": rows, "workers": workers}
    for question in results.find(**asked, load=Closed(connections)):
        return results.samples[question].get(contestant, [])
    return []


def figure(found: Sequence[Sample], name: str = "cpu_us") -> str:
    """Write the median of a figure over the rounds, nothing if there was none."""
    return number(median(found, name)) if found else ""


def times_naive(results: Results, contestant: str, model: str, connections: int, wire: str) -> str:
    """Write how many times a contestant's CPU time naive FastAPI takes."""
    own = samples(results, contestant, model, connections, wire=wire)
    naive = samples(results, NAIVE, model, connections)
    return f"{ratio(naive, own, 'cpu_us')[0]:.2f}" if own and naive else ""


def best_peer(results: Results, model: str, connections: int) -> str:
    """Write the CPU time of the peer that takes least, and which it is."""
    found = {
        name: samples(results, name, model, connections)
        for name in sorted(results.peers - set(BASELINES))
    }
    costs = {name: median(taken, "cpu_us") for name, taken in found.items() if taken}
    if not costs:
        return ""
    best = min(costs, key=lambda name: costs[name])
    return f"{number(costs[best])} ({best})"


def overview(file: Path) -> str:
    """Compare the frameworks with a naive service, the best peer and a bare loop."""
    results = read(file)
    head = ("", *SERVICES.values(), NAIVE, "best peer", BARE)
    contestants = (*SERVICES, NAIVE, None, BARE)

    def cpu(model: str, connections: int, wire: str) -> Row:
        return [
            figure(samples(results, name, model, connections, wire=wire))
            if name
            else best_peer(results, model, connections)
            if wire == "json"
            else ""
            for name in contestants
        ]

    def rows() -> Iterator[Row]:
        for model in ("tabular", "mlp"):
            for connections in (16, 64):
                yield f"{model}, JSON, {connections} connections", *cpu(model, connections, "json")
                times = (
                    times_naive(results, name, model, connections, "json") if name else ""
                    for name in contestants
                )
                yield "… times naive", *times
        yield "mlp, binary, 16 connections", *cpu("mlp", 16, "binary")

    return table(head, rows())


def peers(file: Path) -> str:
    """List all contestants, the cheapest on tabular at 16 connections first."""
    results = read(file)
    starts = {
        each.contestant: each
        for each in results.footprints
        if each.model == "tabular" and each.workers == 1
    }

    def cost(name: str) -> float:
        return median(samples(results, name, "tabular", 16), "cpu_us")

    def rows() -> Iterator[Row]:
        for name in sorted(results.versions, key=cost):
            found = [
                figure(samples(results, name, model, connections))
                for model in ("tabular", "mlp")
                for connections in (16, 64)
            ]
            embed = samples(results, name, "embed", 16)
            probe = number(max(each.probe_ms for each in embed)) if embed else ""
            start = starts.get(name)
            ready = [f"{start.ready_seconds:.1f}", number(start.idle_mb)] if start else ["", ""]
            title = f"**{SERVICES[name]}**" if name in SERVICES else name
            yield title, *found, figure(embed, "rate"), probe, *ready

    head = [f"{model}, {count}" for model in ("tabular", "mlp") for count in (16, 64)]
    more = ("embed, requests/s", "embed, probe ms", "ready s", "idle MB")
    return table(("CPU µs", *head, *more), rows())


def embed(file: Path) -> str:
    """Compare throughput and the slowest probe where the model is nearly all of the work."""
    results = read(file)
    names = (*SERVICES, NAIVE, BARE)
    found = [samples(results, name, "embed", 16) for name in names]
    alone = sorted(results.alone["embed", 1])
    rows = [
        ["requests a second", *(figure(each, "rate") for each in found)],
        ["slowest probe, ms", *(number(max(one.probe_ms for one in each)) for each in found)],
    ]
    rows[0].append(number(alone[len(alone) // 2]))
    rows[1].append("")
    head = ("embed, JSON, 16 connections", *SERVICES.values(), NAIVE, BARE, "the model alone")
    return table(head, rows)


def servers(file: Path) -> str:
    """Compare the servers of one framework."""
    results = read(file)
    names = list(results.versions)
    rows = [
        [f"{count} connection{'s' * (count > 1)}"]
        + [figure(samples(results, name, "tabular", count)) for name in names]
        for count in (1, 16, 64)
    ]
    idle = {each.contestant: number(each.idle_mb) for each in results.footprints}
    rows.append(["idle, MB", *(idle[name] for name in names)])
    return table(("", *(name.split()[-1] for name in names)), rows)


def pythons(file: Path) -> str:
    """Compare the versions of Python that one service runs on."""
    results = read(file)
    names = list(results.versions)
    rows = [
        [f"{model}, {count} connections"]
        + [figure(samples(results, name, model, count)) for name in names]
        for model in ("tabular", "mlp")
        for count in (16, 64)
    ]
    idle = {each.contestant: each.idle_mb for each in results.footprints if each.model == "tabular"}
    rows.append(["tabular, idle MB", *(number(idle[name]) for name in names)])
    versions = (name.rpartition(" on ")[2] for name in names)
    return table(("JSON, CPU µs", *versions), rows)


def typed(file: Path) -> str:
    """Compare typed JSON on ``/predict`` with tensors."""
    results = read(file)
    names = (*SERVICES, NAIVE)

    def rows() -> Iterator[Row]:
        for connections in (16, 64):
            costs = [
                figure(
                    samples(
                        results,
                        name,
                        "tabular",
                        connections,
                        wire="json" if name == NAIVE else "typed",
                    )
                )
                for name in names
            ]
            yield f"typed `/predict`, {connections} connections", *costs
            times = (
                times_naive(results, name, "tabular", connections, "typed") for name in SERVICES
            )
            yield "… times naive", *times, "1"
        for connections in (16, 64):
            costs = [figure(samples(results, name, "tabular", connections)) for name in names]
            yield f"JSON tensors, {connections} connections", *costs

    return table(("tabular, one row, CPU µs", *SERVICES.values(), NAIVE), rows())


def growth(file: Path) -> str:
    """Show how the cost grows with rows and workers."""
    results = read(file)
    sizes = (1, 8, 64)

    def found(rows: int, workers: int = 1) -> list[Sample]:
        return samples(results, "fastapi", "mlp", 16, wire="binary", rows=rows, workers=workers)

    def rate(rows: int, workers: int) -> str:
        return number(rows * median(found(rows, workers), "rate"))

    rows = [
        ["a request", *(figure(found(size)) for size in sizes)],
        ["a row", *(number(median(found(size), "cpu_us") / size) for size in sizes)],
        ["rows a second, one worker", *(rate(size, 1) for size in sizes)],
        ["rows a second, two workers on both processors", *(rate(size, 2) for size in sizes)],
    ]
    head = [f"{size} row{'s' * (size > 1)}" for size in sizes]
    return table(("mlp, binary, 16 connections", *head), rows)


def processors(file: Path) -> str:
    """Show what a second processor gives to a model with nothing around it."""
    rows = [
        [
            f"{each['model']}, {each['rows']} row{'s' * (each['rows'] > 1)} a call",
            *(number(statistics.median(each[name])) for name in ("one", "both")),
            f"{statistics.median(each['times']):.2f}",
        ]
        for each in _json(file)
    ]
    head = ("the model alone, calls a second", "one processor", "two, a loop on each", "times")
    return table(head, rows)


def targets(file: Path) -> str:
    """Compare the frameworks with the targets."""
    grid = targets_grid(read(file))
    return table([SERVICES.get(name, name) for name in grid.columns], grid.rows)


def instructions(file: Path) -> str:
    """List the instructions that a request costs."""
    found = _json(file)["instructions"]
    rows = [
        [path, *(_thousands(found[name].get(path)) for name in (*SERVICES, "bare"))]
        for path in found["fastapi"]
    ]
    return table(("thousands of instructions a request", *SERVICES.values(), BARE), rows)


def _thousands(count: int | None) -> str:
    return "" if count is None else f"{count / 1000:,.0f}"


def overload(file: Path) -> str:
    """Show what is answered at ten times the load that can be served."""
    head = ("model", "deadline s", "most, requests/s", "offered", "answered in time", "of the most")
    more = ("p99 s", "slowest liveness probe, ms", "MiB by quarter")
    rows = [
        [
            each["model"],
            f"{each['deadline_seconds']:g}",
            *(number(each[name]) for name in ("maximum", "offered", "goodput")),
            f"{each['goodput'] / each['maximum']:.0%}",
            f"{each['latency_p99_seconds']:.2g}",
            f"{1000 * each['live_max_seconds']:.0f}",
            ", ".join(f"{size / MIB:.0f}" for size in each["memory_bytes"]),
        ]
        for each in _json(file)
    ]
    return table((*head, *more), rows)


def soak(file: Path) -> str:
    """Show what a service holds before and after a soak."""
    found = _json(file)
    before, after = found["after warm-up"], found["at the end"]
    levels = {"files": "open files", "threads": "threads", "queued": "rows queued"}
    levels |= {"in_flight": "requests in flight"}
    memory = ["resident memory, MiB", *(f"{each['memory'] / MIB:.1f}" for each in (before, after))]
    rest = [[text, str(before[name]), str(after[name])] for name, text in levels.items()]
    return table(("", "after warm-up", f"after {found['minutes']:g} minutes"), [memory, *rest])


MAKERS: Final[dict[str, tuple[Callable[[Path], str], str]]] = {
    "overview": (overview, "reference/results.json"),
    "peers": (peers, "reference/results.json"),
    "embed": (embed, "reference/results.json"),
    "growth": (growth, "reference/results.json"),
    "targets": (targets, "reference/results.json"),
    "servers": (servers, "servers/results.json"),
    "typed": (typed, "predict/results.json"),
    "pythons": (pythons, "pythons/results.json"),
    "processors": (processors, "processors.json"),
    "overload": (overload, "overload.json"),
    "soak": (soak, "soak.json"),
    "instructions": (instructions, ""),
}
"""How each table is made, and of which file of a run."""


def filled(text: str, folder: Path, run: str | None = None) -> str:
    """Make the tables of a page anew, from files relative to a folder."""

    def make(block: re.Match[str]) -> str:
        name, file = block["name"], block["file"]
        maker, ours = MAKERS[name]
        if run and ours and (folder / "benchmarks" / run / ours).exists():
            file = f"benchmarks/{run}/{ours}"
        written = maker(folder / file)
        return f"<!-- figures: {name} {file} -->\n\n{written}\n<!-- end of {name} -->"

    return _BLOCK.sub(make, text)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", metavar="FOLDER", help="a folder of docs/benchmarks/")
    given = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(text, PAGE.parent, given.run), encoding="utf-8")


if __name__ == "__main__":
    main()
