"""Runs checks over variants, several at a time."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inferplate.errors import InferplateError, unknown
from inferplate.signals import temporary_folder
from inferplate.template.variants import Variant
from inferplate_tools.verify.checks import CHECKS, Check
from inferplate_tools.workbench import Workbench


@dataclass(frozen=True)
class Result:
    """The outcome of one check of one variant.

    ``seconds``: how long it took. ``failure``: what was wrong, None when nothing was.
    """

    variant: Variant
    check: str
    seconds: float
    failure: str | None = None


def default_jobs() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def select_checks(names: Sequence[str]) -> list[Check]:
    """Find checks by name, all of them if none is named.

    Raises:
        InferplateError: a check does not exist.
    """
    for name in names:
        if name not in CHECKS:
            raise unknown("check", name, list(CHECKS))
    return [check for check in CHECKS.values() if not names or check.name in names]


@contextmanager
def workbench(keep: Path | None) -> Iterator[Workbench]:
    """Open a workbench in a folder that is kept, or in one that goes.

    Raises:
        InferplateError: the folder to keep has something in it.
    """
    if keep is None:
        with temporary_folder() as folder:
            yield Workbench(folder)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InferplateError(f"{keep} is not an empty folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield Workbench(keep.resolve())


def verify(
    bench: Workbench,
    variants: Sequence[Variant],
    checks: Sequence[Check],
    *,
    jobs: int,
    keep: bool,
    report: Callable[[Result], None],
) -> list[Result]:
    """Run every check of every variant, and report each result as it comes.

    ``report`` is called from several threads.

    Raises:
        KeyboardInterrupt: the checks that were running have ended, and no other has begun.
    """
    interrupted = threading.Event()

    def verify_one(variant: Variant) -> list[Result]:
        results = []
        for check in checks:
            result = run_check(bench, variant, check)
            if interrupted.is_set():
                break
            results.append(result)
            report(result)
        if not keep:
            shutil.rmtree(bench.root / "variants" / variant.name, ignore_errors=True)
        return results

    with ThreadPoolExecutor(jobs, thread_name_prefix="verify") as pool:
        try:
            return [result for results in pool.map(verify_one, variants) for result in results]
        except KeyboardInterrupt:
            interrupted.set()
            raise


def run_check(bench: Workbench, variant: Variant, check: Check) -> Result:
    """Run one check of one variant; whatever it raises is its failure."""
    began = time.perf_counter()
    failure = None
    try:
        check.run(bench, variant)
    except InferplateError as error:
        failure = str(error)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return Result(variant, check.name, time.perf_counter() - began, failure)
