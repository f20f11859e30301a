"""The measurements of a run: stages (a model, a number of workers) and their scenarios."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from inferplate.bench.load import Closed, Open

BASELINES: Final = ("naive", "bare", "bare-inline")
"""The peers that a suite has without being told."""
ASKED_EVERYTHING: Final = (*BASELINES, "naive-async", "mosec", "mosec-batching")
"""The peers that are small or fast enough to be asked everything; the others have one scenario."""
TARGET_SHARE: Final = 0.6
"""The load at which the target for tail latency holds."""


@dataclass(frozen=True)
class Share:
    """An open loop at a share of what the model alone carries, from 0 to 1."""

    of_capacity: float

    def rate(self, capacity: float) -> float:
        return self.of_capacity * capacity


@dataclass(frozen=True)
class Scenario:
    """One way to ask.

    ``few_peers``: of the peers, only those of `ASKED_EVERYTHING` take part.
    """

    wire: str
    rows: int
    load: Closed | Open | Share
    few_peers: bool = False


@dataclass(frozen=True)
class Stage:
    """Scenarios in which the same servers run. Peers take part where there is one worker."""

    model: str
    workers: int
    scenarios: tuple[Scenario, ...]


def chosen(
    models: Sequence[str],
    wires: Sequence[str],
    rows: Sequence[int],
    loads: Sequence[Closed | Open | Share],
    workers: Sequence[int],
) -> list[Stage]:
    """Make the product of what was chosen."""
    scenarios = tuple(Scenario(*values) for values in product(wires, rows, loads))
    return [Stage(model, count, scenarios) for model, count in product(models, workers)]


def reference() -> list[Stage]:
    """Make the suite in which the targets of ``docs/benchmarks.md`` are measured."""
    one, some, many = Closed(1), Closed(16), Closed(64)

    shares = [Scenario("json", 1, Share(part), True) for part in (0.3, TARGET_SHARE, 0.9)]
    everyone = Scenario("json", 1, some)
    latency = Scenario("json", 1, one, few_peers=True)
    crowd = Scenario("json", 1, many, few_peers=True)
    binary = tuple(Scenario("binary", rows, some) for rows in (1, 8, 64))
    return [
        Stage("tabular", 1, (latency, everyone, crowd, binary[0], Scenario("typed", 1, some))),
        Stage("mlp", 1, (latency, everyone, crowd, *binary)),
        Stage("embed", 1, (latency, everyone, *shares)),
        Stage("mlp", 2, binary),
        Stage("embed", 2, (everyone,)),
    ]
