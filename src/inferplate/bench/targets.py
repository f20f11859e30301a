"""The targets of the reference suite, and the figures that services reach."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inferplate.bench.load import Closed, Open, Sample, offered
from inferplate.bench.plan import TARGET_SHARE, Share
from inferplate.bench.report import NAIVE, Grid, number
from inferplate.bench.results import Results, median, ratio

BARE: Final = "bare ASGI, batched"
INLINE: Final = "bare ASGI, inline"
MOSEC: Final = "Mosec, batching"
_BASELINES: Final = (NAIVE, f"{NAIVE}, async", BARE, INLINE)
_MODELS: Final = ("tabular", "mlp", "embed")


@dataclass(frozen=True)
class Target:
    """A line of the table.

    ``bound``: the lower bound if ``at_least``, else the upper bound; ``bounds``: other bounds, by
    framework. ``reach``: returns the figure of a service, NaN if it was not measured.
    """

    text: str
    bound: float
    reach: Callable[[Results, str], float]
    at_least: bool = True
    bounds: Mapping[str, float] = field(default_factory=dict)

    def is_met(self, service: str, reached: float) -> bool:
        """Return whether a figure of a service meets the target."""
        bound = self.bounds.get(service.split()[0], self.bound)
        return reached >= bound if self.at_least else reached <= bound


def targets_grid(results: Results) -> Grid:
    """Compare each service with each target; a figure that does not reach it says so."""
    services = [name for name in results.versions if name not in results.peers]
    rows = []
    for target in targets():
        sign = "≥" if target.at_least else "≤"
        bounds = [f"{bound:g} ({name})" for name, bound in target.bounds.items()]
        row = [target.text, " ".join([sign, ", ".join([f"{target.bound:g}", *bounds])])]
        for service in services:
            reached = target.reach(results, service)
            verdict = "" if math.isnan(reached) or target.is_met(service, reached) else " missed"
            row.append(number(reached) + verdict)
        rows.append(tuple(row))
    return Grid("Targets and what was reached", ("", "target", *services), rows)


def targets() -> Iterator[Target]:
    """Walk through the targets."""
    yield Target(
        "tabular, JSON, 64 connections: CPU of Mosec with batching / this",
        0.9,
        _cpu_of(MOSEC, "tabular", 64),
    )
    yield Target(
        "tabular, JSON, 64 connections: median ms over that of Mosec with batching",
        0,
        _median_over("tabular", MOSEC, 64),
        at_least=False,
    )
    for model, bounds in (("tabular", (4.0, 5.0)), ("mlp", (2.5, 2.5))):
        for connections, bound in zip((16, 64), bounds, strict=True):
            yield Target(
                f"{model}, JSON, {connections} connections: naive FastAPI's CPU / this",
                bound,
                _cpu_of(NAIVE, model, connections),
            )
    yield Target("tabular, JSON, 16 connections: the best peer's CPU / this", 1, _best_peer)
    for model in ("tabular", "mlp"):
        for connections in (16, 64):
            yield Target(
                f"{model}, JSON, {connections} connections: CPU / the bare batching loop's",
                1.35,
                _cpu_over(BARE, model, connections),
                at_least=False,
            )
    yield Target(
        "mlp, binary, 16 connections: naive FastAPI's CPU (JSON) / this",
        5,
        lambda results, service: _times(
            _samples(results, NAIVE, "mlp"), _samples(results, service, "mlp", wire="binary")
        ),
    )
    for model in _MODELS:
        yield Target(
            f"{model}, JSON, 1 connection: median ms over the bare inline loop's",
            0.15,
            _median_over(model, INLINE, 1),
            at_least=False,
        )
    yield Target(
        "embed, 16 connections: throughput / the model alone", 0.97, _of_the_model("embed")
    )
    yield Target(
        "mlp, binary, 64 rows, 16 connections: rows / the model alone's",
        0.85,
        _of_the_model("mlp", wire="binary", rows=64),
    )
    yield Target(
        "embed, open loop at 60 %: p99 / the bare inline loop's",
        2,
        lambda results, service: _times(
            _open(results, service), _open(results, INLINE), figure="p99_ms"
        ),
        at_least=False,
    )
    yield Target(
        "tabular, typed, 16 connections: naive FastAPI's CPU / this",
        1.25,
        lambda results, service: _times(
            _samples(results, NAIVE, "tabular"),
            _samples(results, service, "tabular", wire="typed"),
        ),
        bounds={"litestar": 1.4, "ninja": 1.0},
    )
    yield Target("one worker: slowest readiness probe, ms", 50, _slowest_probe, at_least=False)
    for model in _MODELS:
        ready = _footprint(model, "ready_seconds")
        yield Target(f"{model}: seconds to ready", 1.0, ready, at_least=False)
        yield Target(
            f"{model}: idle resident memory, MB",
            110,
            _footprint(model, "idle_mb"),
            at_least=False,
            bounds={"fastapi": 100, "ninja": 120} if model == "tabular" else {"ninja": 120},
        )
    yield Target("embed: two workers' throughput / one's", 1.8, _scaling("embed"))
    yield Target(
        "mlp, binary, 8 rows: two workers' throughput / one's",
        1.8,
        _scaling("mlp", wire="binary", rows=8),
    )


def _samples(
    results: Results,
    contestant: str,
    model: str,
    connections: int = 16,
    wire: str = "json",
    workers: int = 1,
    rows: int = 1,
) -> Sequence[Sample]:
    wanted = {"model": model, "wire": wire, "rows": rows, "workers": workers}
    for question in results.find(**wanted, load=Closed(connections)):
        return results.samples[question].get(contestant, [])
    return []


def _open(results: Results, contestant: str) -> Sequence[Sample]:
    for capacity in results.alone.get(("embed", 1), [])[:1]:
        load = Open(offered(Share(TARGET_SHARE).rate(capacity)))
        for question in results.find(model="embed", wire="json", load=load):
            return results.samples[question].get(contestant, [])
    return []


def _times(above: Sequence[Sample], below: Sequence[Sample], figure: str = "cpu_us") -> float:
    return ratio(above, below, figure)[0]


def _cpu_of(other: str, model: str, connections: int) -> Callable[[Results, str], float]:
    return lambda results, service: _times(
        _samples(results, other, model, connections),
        _samples(results, service, model, connections),
    )


def _cpu_over(other: str, model: str, connections: int) -> Callable[[Results, str], float]:
    return lambda results, service: _times(
        _samples(results, service, model, connections),
        _samples(results, other, model, connections),
    )


def _best_peer(results: Results, service: str) -> float:
    own = _samples(results, service, "tabular")
    found = [
        _times(_samples(results, peer, "tabular"), own)
        for peer in results.peers
        if peer not in _BASELINES
    ]
    return min((times for times in found if not math.isnan(times)), default=math.nan)


def _median_over(model: str, other: str, connections: int) -> Callable[[Results, str], float]:
    def reach(results: Results, service: str) -> float:
        own = median(_samples(results, service, model, connections), "p50_ms")
        return own - median(_samples(results, other, model, connections), "p50_ms")

    return reach


def _of_the_model(model: str, wire: str = "json", rows: int = 1) -> Callable[[Results, str], float]:
    def reach(results: Results, service: str) -> float:
        alone = sorted(results.alone.get((model, rows), []))
        if not alone:
            return math.nan
        samples = _samples(results, service, model, wire=wire, rows=rows)
        return median(samples, "rate") / alone[len(alone) // 2]

    return reach


def _slowest_probe(results: Results, service: str) -> float:
    found = [
        sample.probe_ms
        for question, by_contestant in results.samples.items()
        if question.workers == 1  # with more, the load generator may share their processors
        for sample in by_contestant.get(service, [])
    ]
    return max(found, default=math.nan)


def _footprint(model: str, figure: str) -> Callable[[Results, str], float]:
    def reach(results: Results, service: str) -> float:
        for footprint in results.footprints:
            found = (footprint.contestant, footprint.model, footprint.workers)
            if found == (service, model, 1):
                return float(getattr(footprint, figure))
        return math.nan

    return reach


def _scaling(model: str, wire: str = "json", rows: int = 1) -> Callable[[Results, str], float]:
    def reach(results: Results, service: str) -> float:
        one, two = (
            _samples(results, service, model, wire=wire, workers=workers, rows=rows)
            for workers in (1, 2)
        )
        return _times(two, one, figure="rate")

    return reach
