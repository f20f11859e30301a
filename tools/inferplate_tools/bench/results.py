"""What a run found, and the figures that are drawn from it."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from inferplate.errors import InferplateError
from inferplate_tools.bench.load import Closed, Open, Sample

FILE_NAME: Final = "results.json"


@dataclass(frozen=True)
class Question:
    """One way to ask one model, which all contestants are compared on."""

    model: str
    workers: int
    wire: str
    rows: int
    load: Closed | Open

    def __str__(self) -> str:
        parts = [self.model, self.wire]
        parts += [f"{self.rows} rows a request"] if self.rows > 1 else []
        parts += [f"{self.workers} workers"] if self.workers > 1 else []
        return ", ".join([*parts, str(self.load)])

    @property
    def slug(self) -> str:
        load = f"{self.load.connections}c" if isinstance(self.load, Closed) else "open"
        rows = [f"{self.rows}rows"] if self.rows > 1 else []
        workers = [f"{self.workers}workers"] if self.workers > 1 else []
        return "-".join([self.model, self.wire, *rows, *workers, load])


@dataclass(frozen=True)
class Footprint:
    """What a server takes besides processor time.

    ``ready_seconds``: from its start to the first 200 of its probe. ``idle_mb`` and ``loaded_mb``:
    resident memory of all its processes when ready, and after the last measurement.
    """

    contestant: str
    model: str
    workers: int
    ready_seconds: float
    idle_mb: float
    loaded_mb: float = math.nan


@dataclass
class Results:
    """Everything that a run found.

    ``samples``: by question and contestant, one a round. ``alone``:
    requests per second that a model answers with nothing around it, by model and rows a request.
    ``versions``: of the packages that each contestant has. ``peers``: which contestants are peers.
    ``failures``: a line for each thing that could not be measured.
    """

    started: str
    machine: Mapping[str, Any]
    tools: Mapping[str, str]
    rounds: int
    seconds: int
    samples: dict[Question, dict[str, list[Sample]]] = field(default_factory=dict)
    footprints: list[Footprint] = field(default_factory=list)
    alone: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    peers: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def add(self, question: Question, contestant: str, sample: Sample) -> None:
        """Note what one round showed."""
        self.samples.setdefault(question, {}).setdefault(contestant, []).append(sample)

    def find(self, **wanted: object) -> "Iterable[Question]":
        """Walk through the questions with these attributes."""
        for question in self.samples:
            if all(getattr(question, name) == value for name, value in wanted.items()):
                yield question


def median(samples: Sequence[Sample], figure: str) -> float:
    """Return the median of a figure over the rounds, NaN without any."""
    values = [getattr(sample, figure) for sample in samples]
    return statistics.median(values) if values else math.nan


def ratio(
    above: Sequence[Sample], below: Sequence[Sample], figure: str
) -> tuple[float, float, float]:
    """Compare a figure round by round, so that what slows a whole round cancels out.

    Returns:
        Median, least and greatest ratio over the rounds, NaN without any.
    """
    pairs = zip(above, below, strict=False)
    ratios = [getattr(left, figure) / getattr(right, figure) for left, right in pairs]
    if not ratios:
        return math.nan, math.nan, math.nan
    return statistics.median(ratios), min(ratios), max(ratios)


def claim(folder: Path) -> None:
    """Make the folder of a run's results.

    Raises:
        InferplateError: another run's are in it, or it cannot be made.
    """
    if (folder / FILE_NAME).exists():
        raise InferplateError(f"{folder} has the results of another run: choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InferplateError(f"cannot write to {folder}: {error.strerror}") from None


def as_json(results: Results) -> str:
    """Write everything as a JSON document; what is not a number is null."""
    document = {
        "started": results.started,
        "machine": dict(results.machine),
        "tools": dict(results.tools),
        "rounds": results.rounds,
        "seconds": results.seconds,
        "measurements": [
            {
                "model": question.model,
                "workers": question.workers,
                "wire": question.wire,
                "rows": question.rows,
                "load": dataclasses.asdict(question.load),
                "contestant": contestant,
                "samples": [dataclasses.asdict(sample) for sample in samples],
            }
            for question, by_contestant in results.samples.items()
            for contestant, samples in by_contestant.items()
        ],
        "alone": [
            {"model": model, "rows": rows, "requests_per_second": rates}
            for (model, rows), rates in results.alone.items()
        ],
        "footprints": [dataclasses.asdict(footprint) for footprint in results.footprints],
        "versions": {name: dict(found) for name, found in results.versions.items()},
        "peers": sorted(results.peers),
        "failures": results.failures,
    }
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Results:
    """Read what `as_json` wrote; null is NaN."""
    document = json.loads(path.read_text(encoding="utf-8"))
    results = Results(
        document["started"],
        document["machine"],
        document["tools"],
        document["rounds"],
        document["seconds"],
        versions=document["versions"],
        peers=set(document["peers"]),
        failures=document["failures"],
    )
    for entry in document["measurements"]:
        load = Closed(**entry["load"]) if "connections" in entry["load"] else Open(**entry["load"])
        asked = (entry["model"], entry["workers"], entry["wire"], entry["rows"])
        for sample in entry["samples"]:
            results.add(Question(*asked, load), entry["contestant"], Sample(**_number(sample)))
    for entry in document["alone"]:
        results.alone[entry["model"], entry["rows"]] = entry["requests_per_second"]
    results.footprints += [Footprint(**_number(entry)) for entry in document["footprints"]]
    return results


def _number(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in entry.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
