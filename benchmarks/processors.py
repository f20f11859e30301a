"""Measure what a second processor gives to models that run with nothing around them.

    make environment
    .venv/bin/python benchmarks/processors.py [--rounds 3] [--json FILE]

The reference models run in loops, pinned: on each of two processors alone, then on both at the same
time. What both give together, over what one gives, is the most that two workers of a service can
gain on this machine, where processors may share a core, caches and the memory. The figures are
medians of the rounds, which take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from inferplate_tools.bench.models import reference

MODELS: Final = {"tabular": 1, "mlp": 8, "embed": 1}
"""Rows a call."""
SECONDS: Final = 2


def start(processor: int, model: Path, rows: int) -> "subprocess.Popen[bytes]":
    """Start a loop on a processor."""
    loop = [sys.executable, "-m", "inferplate_tools.bench.alone", str(model), str(rows)]
    command = ["taskset", "--cpu-list", str(processor), *loop, str(SECONDS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter


def calls_a_second(loops: Sequence["subprocess.Popen[bytes]"]) -> float:
    """Wait for loops, and return how many calls a second they made together."""
    found = [json.loads(loop.communicate()[0]) for loop in loops]
    rates: list[float] = [each["calls"] / each["seconds"] for each in found]
    return sum(rates)


def measure(model: Path, rows: int, rounds: int, processors: Sequence[int]) -> dict[str, Any]:
    """Return the calls a second of each round: on one processor, on average, and on both."""
    one, both = [], []
    for _ in range(rounds):
        alone = [calls_a_second([start(each, model, rows)]) for each in processors]
        one.append(statistics.mean(alone))
        both.append(calls_a_second([start(each, model, rows) for each in processors]))
    times = [two / single for single, two in zip(one, both, strict=True)]
    return {"model": model.stem, "rows": rows, "one": one, "both": both, "times": times}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    given = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        sys.exit("this needs two processors")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in MODELS.items():
            model = reference(name, Path(folder)).path
            found.append(measure(model, rows, given.rounds, processors))
            times = statistics.median(found[-1]["times"])
            print(f"{name}, {rows} rows a call: two processors give {times:.2f} times as much")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
