"""Make every run that docs/benchmarks.md has tables of, and its tables.

    .venv/bin/python benchmarks/publish.py FOLDER [--only NAME] [--minutes 60]

The raw data go to ``docs/benchmarks/FOLDER``, named by the day. The machine has to be quiet: no run
starts while anything else takes more than a fifth of a processor. What is there already is kept, so
that the command goes on after an interruption. It ends with 1 if a run failed.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil

from inferplate_tools.bench.peers import peer_names

ROOT: Final = Path(__file__).parents[1]
_QUIET_SECONDS: Final = 5
_QUIET_SHARE: Final = 0.2
_SERVERS: Final = ("uvicorn", "granian", "gunicorn", "hypercorn")
_PYTHONS: Final = ("3.11", "3.12", "3.13")

Step = tuple[str, Path, list[str]]


def steps(folder: Path, minutes: float) -> Iterator[Step]:
    """Walk through the runs: a name, what it writes, its command."""

    def bench(name: str, *options: str) -> Step:
        output = folder / name
        command = ["-m", "inferplate_tools.bench", *options, "--output", str(output)]
        return name, output / "README.md", command

    def script(name: str, *options: str) -> Step:
        return name, folder / f"{name}.json", [f"benchmarks/{name}.py", *options]

    yield bench("reference", "--suite", "reference", *_each("--peer", peer_names()))
    some, many = "--connections=16", "--connections=64"
    servers = _each("--server", _SERVERS)
    yield bench("servers", "--framework=fastapi", *servers, "--connections=1", some, many)
    predict = ("--model=tabular", "--wire=typed", "--wire=json", some, many, "--peer=naive")
    yield bench("predict", *predict, "--rounds=5")
    pythons = _each("--python-version", _PYTHONS)
    models = ("--model=tabular", "--model=mlp")
    yield bench("pythons", "--framework=fastapi", *pythons, *models, some, many, "--rounds=5")
    heavy = ("--model=embed", "--model=mlp", "--wire=binary", "--rows=8")
    yield bench("workers", *heavy, "--workers=1", "--workers=2", "--rounds=5")
    yield script("processors", "--json", str(folder / "processors.json"))
    yield script("overload", "--json", str(folder / "overload.json"))
    yield script("soak", f"--minutes={minutes:g}", "--json", str(folder / "soak.json"))


def load_of_others() -> float:
    """Return how much of the processors is in use now: 1 is one whole processor."""
    return psutil.cpu_percent(_QUIET_SECONDS) / 100 * (psutil.cpu_count() or 1)


def run(step: Step) -> bool:
    """Carry a step out unless it is done, and return whether it went well."""
    name, written, command = step
    if written.exists():
        print(f"{name}: is there")
        return True
    if (busy := load_of_others()) > _QUIET_SHARE:
        sys.exit(f"{name}: not started, as something else takes {busy:.2f} processors")
    print(f"{name}: {' '.join(command)}", flush=True)
    began = time.monotonic()
    if written.name == "README.md":
        shutil.rmtree(written.parent, ignore_errors=True)  # that of a run that was cut off
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)  # noqa: S603 - ours
    print(f"{name}: {(time.monotonic() - began) / 60:.0f} minutes, exit code {done.returncode}")
    return done.returncode == 0


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [f"{option}={value}" for value in values]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--only", action="append", metavar="NAME", help="this run; repeatable")
    parser.add_argument("--minutes", type=float, default=60, help="of the soak")
    given = parser.parse_args()
    folder = ROOT / "docs/benchmarks" / given.folder
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        step for step in steps(folder, given.minutes) if not given.only or step[0] in given.only
    ]
    went_well = [run(step) for step in wanted]
    page = [sys.executable, "benchmarks/page.py", "--run", given.folder]
    subprocess.run(page, cwd=ROOT, check=True)  # noqa: S603 - ours
    return not all(went_well)


if __name__ == "__main__":
    sys.exit(main())
