"""How fast `python -m service score` is, and how much memory it takes, beside the model alone.

    make environment
    .venv/bin/python benchmarks/scoring.py PROJECT [--rows 1000000]

PROJECT is an emitted service with the example model of ONNX Runtime, trained. Each number is that
of a process of its own: `score` reads CSV and writes JSON lines, "alone" runs the model on arrays
of the same rows, in batches of 64, and does nothing else. Memory is the largest resident set.
Seconds of CPUs are there too, as other work on the machine changes them least.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCH = 64
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SOME = 10_000
"""Different rows, which are repeated."""


def rows() -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    drawn = np.random.default_rng(1).uniform(0.1, 8, (SOME, len(COLUMNS)))
    return drawn.round(1).astype(np.float32)


def write_csv(path: Path, count: int) -> None:
    lines = [",".join(f"{value:.1f}" for value in row) + "\n" for row in rows().tolist()]
    with path.open("w", encoding="ascii") as file:
        file.write(",".join(COLUMNS) + "\n")
        for start in range(0, count, SOME):
            file.writelines(lines[: count - start])


def run_alone(artifact: Path, count: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    given, some = session.get_inputs()[0].name, rows()
    for start in range(0, count, BATCH):
        first = start % (SOME - BATCH)
        session.run(None, {given: some[first : first + min(BATCH, count - start)]})


def measure(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Run a command in a folder; return its seconds, those of processors, and its MiB."""
    settings = {**os.environ, "PYTHONPATH": "src", "SERVICE_MAX_BATCH_SIZE": str(BATCH)}
    began = time.perf_counter()
    pid = os.posix_spawn(
        "/usr/bin/env", ["env", "-C", str(folder), sys.executable, *command], settings
    )
    _, status, used = os.wait4(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{command} ended with {code}")
    seconds = time.perf_counter() - began
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--alone", action="store_true", help="run the model, in this process")
    arguments = parser.parse_args()
    project, count = arguments.project.resolve(), arguments.rows
    (artifact,) = (project / "models").glob("*.onnx")
    if arguments.alone:
        run_alone(artifact, count)
        return
    with tempfile.TemporaryDirectory() as name:
        given, output = Path(name, "rows.csv"), Path(name, "out.jsonl")
        write_csv(given, count)
        alone = [str(Path(__file__).resolve()), str(project), "--rows", str(count), "--alone"]
        results = {
            "alone": measure(alone, project),
            "score": measure(["-m", "service", "score", str(given), str(output)], project),
        }
    for what, (seconds, processors, memory) in results.items():
        rate = f"{count / seconds:,.0f} rows/s"
        print(f"{what}: {rate}, {memory:.0f} MiB, {seconds:.1f} s, {processors:.1f} s of CPUs")


if __name__ == "__main__":
    main()
