"""The command: ``python -m faults``, or ``make faults``."""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from faults.drawn import KIND as DRAWN
from faults.drawn import draw
from faults.fault import Fault, FaultError, planted, reasons
from faults.trial import Outcome, Trials
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

_SEED: Final = 15
_DRAWN: Final = 180
_THRESHOLD: Final = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Try faults; return 0 if few enough survive, 1 if not, 2 if one cannot be tried."""
    given = _parser().parse_args(arguments)
    root = template_root()
    every = [*planted(), *draw(root, given.drawn, given.seed)]
    if given.kind:
        every = [fault for fault in every if fault.kind in given.kind]
    if given.sample and given.sample < len(every):
        every = random.Random(given.seed).sample(every, given.sample)  # noqa: S311 - not a secret
    if given.list:
        for fault in every:
            print(f"{fault.kind}: {fault.name}")
        return 0
    equivalent = reasons()
    tried = [fault for fault in every if (fault.file, fault.change) not in equivalent]
    outcomes: list[Outcome] = []
    errors: list[FaultError] = []
    for result in _try(root, tried, given.jobs):
        if isinstance(result, FaultError):
            errors.append(result)
            print(f"error     {result}", flush=True)
            continue
        outcomes.append(result)
        word = "noticed " if result.noticed else "SURVIVED"
        by = f"\n          by {result.by}" if result.noticed else ""
        print(f"{word} {result.seconds:4.0f} s  {result.fault.kind}: {result.fault.name}{by}")
        sys.stdout.flush()
    for fault in every:
        if reason := equivalent.get((fault.file, fault.change)):
            print(f"equivalent {fault.name}\n          {reason}")
    return _report(every, outcomes, errors)


def _try(root: Path, faults: Sequence[Fault], jobs: int) -> Iterator[Outcome | FaultError]:
    """Try faults in several copies of the repository at a time."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-models-"))
        free: SimpleQueue[Trials] = SimpleQueue()
        for _ in range(jobs):
            free.put(stack.enter_context(Trials(root, Workbench(Path(folder)))))

        def attempt(fault: Fault) -> Outcome | FaultError:
            trials = free.get()
            try:
                return trials.run(fault)
            except FaultError as error:
                return error
            finally:
                free.put(trials)

        pool = ThreadPoolExecutor(jobs)
        stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C ends after those that run
        for future in as_completed([pool.submit(attempt, fault) for fault in faults]):
            yield future.result()


def _report(
    every: Sequence[Fault], outcomes: Sequence[Outcome], errors: Sequence[FaultError]
) -> int:
    survivors = Counter(each.fault.kind for each in outcomes if not each.noticed)
    kinds = Counter(fault.kind for fault in every)
    width = max(map(len, kinds), default=0)
    print(f"\n{'kind':<{width}}  faults  survivors")
    for kind, count in sorted(kinds.items()):
        print(f"{kind:<{width}}  {count:>6}  {survivors[kind]:>9}")
    total = survivors.total()
    print(f"{'all':<{width}}  {len(every):>6}  {total:>9}")
    if errors:
        print(f"\n{len(errors)} faults could not be tried")
        return 2
    return 1 if total > _THRESHOLD * len(every) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description="Plant faults in the template, one at a time, and report those that survive.",
    )
    parser.add_argument("--kind", action="append", help=f"only faults of this kind, or {DRAWN}")
    parser.add_argument("--sample", type=int, default=0, help="so many of them, drawn by the seed")
    parser.add_argument("--seed", type=int, default=_SEED, help="another draw [%(default)s]")
    parser.add_argument(
        "--drawn", type=int, default=_DRAWN, help="how many mutations to draw [%(default)s]"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time [%(default)s]")
    parser.add_argument("--list", action="store_true", help="print the faults and try none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
