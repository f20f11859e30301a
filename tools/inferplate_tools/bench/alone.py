"""Runs a model with nothing around it, faster than any server on one processor can.

    python -m inferplate_tools.bench.alone MODEL ROWS SECONDS

Prints calls and the seconds of the clock and of the processor that they took, as JSON.
"""

import json
import sys
import time
from pathlib import Path

from inferplate_tools.bench.models import load, session


def main(path: str, rows: str, seconds: str) -> None:
    model = load(Path(path))
    running, batch = session(model.path), model.batch(int(rows))
    running.run(None, batch)
    calls, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < float(seconds):
        running.run(None, batch)
        calls += 1
    taken = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    print(json.dumps({"calls": calls, **taken}))


if __name__ == "__main__":
    main(*sys.argv[1:])
