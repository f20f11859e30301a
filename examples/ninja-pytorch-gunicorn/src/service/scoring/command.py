"""``python -m service score``: scores a file, and goes on where an earlier run was interrupted."""

import argparse
import asyncio
import functools
import inspect
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from service.core.errors import ServiceError
from service.core.manifest import FILE_NAME, locate, read
from service.ops import process
from service.ops.logs import configure_logging
from service.ops.settings import PREFIX, Settings
from service.scoring import parquet
from service.scoring.columns import OutputColumn, output_columns
from service.scoring.draft import Convert, Draft, digest, refused_path
from service.scoring.errors import CannotScore
from service.scoring.fields import Fields
from service.scoring.progress import Progress
from service.scoring.results import Encode, csv_line, csv_lines, json_lines
from service.scoring.run import Run
from service.scoring.scorer import Scorer
from service.scoring.sources import (
    CSV,
    JSON_LINES,
    PARQUET,
    STANDARD_INPUT,
    Source,
    format_of,
    open_source,
)
from service.scoring.wanted import Wanted

if TYPE_CHECKING:
    from service.interfaces import Runtime

DONE: Final = 0
NOT_DONE: Final = 1
DONE_WITH_REFUSED: Final = 3

_UNBOUNDED: Final = 2**62
"""Rows that may wait: a run bounds them itself."""
_PARTS: Final = {
    "input": "IN",
    "model": "the model",
    "predict": "predict.py",
    "options": "--id or --drop",
}
"""What must be as it was for a run to go on, in words."""


class _Interrupted(Exception):
    """Somebody ended the run."""


def score(
    arguments: argparse.Namespace, settings: Settings, predict: ModuleType, runtime: "Runtime"
) -> int:
    """Score a file and return the exit code. ``predict``: the module `service.predict`.

    Raises:
        ArtifactError, CannotStart: the model cannot be loaded.
        OSError: a file cannot be read or written.
    """
    keeps = arguments.input != STANDARD_INPUT
    draft = Draft(arguments.output, keeps=keeps)
    try:
        code = _score(arguments, settings, predict, runtime, draft)
    except (CannotScore, ServiceError) as error:
        print(f"service: {error}", file=sys.stderr)
        code = NOT_DONE
    except (_Interrupted, KeyboardInterrupt):
        code = NOT_DONE
        print(f"service: {process.failure() or 'interrupted'}", file=sys.stderr)
    finally:
        draft.close()
    if code == NOT_DONE and draft.rows:
        kept = (
            f"{draft.rows:,} rows are kept: the same command goes on after them"
            if keeps
            else "nothing is kept of rows from standard input"
        )
        print(f"service: {kept}", file=sys.stderr)
    return code


def _score(
    arguments: argparse.Namespace,
    settings: Settings,
    predict: ModuleType,
    runtime: "Runtime",
    draft: Draft,
) -> int:
    _check(arguments, settings)
    locate(read(settings.model_dir), settings.model_dir)
    wanted = Wanted(Fields(predict.Instance), arguments.id, arguments.drop)
    if arguments.overwrite:
        draft.clear()
    recorded = draft.recorded()
    identity = _identity(arguments, settings, predict)
    if recorded is not None:
        _check_same(recorded, identity, settings)
    with (
        process.prepare(1),
        open_source(arguments.input, wanted, settings) as source,
    ):
        target = _Target(arguments, predict, source)
        configure_logging(settings)
        with _signals(at_once=arguments.input == STANDARD_INPUT) as stopping:
            scorer = Scorer(_for_scoring(settings, recorded), predict, runtime)
            done = asyncio.run(_run(scorer, draft, source, target, identity, recorded, stopping))
            if not done:
                raise _Interrupted
            _check_unchanged(arguments.input, identity)
            draft.finish(target.convert)
    done_rows = f"{draft.rows - draft.refused:,} of {draft.rows:,} rows have a prediction"
    print(f"service: {arguments.output}: {done_rows}", file=sys.stderr)
    if not draft.refused:
        return DONE
    refused = refused_path(arguments.output)
    print(f"service: {refused}: why the others were refused", file=sys.stderr)
    return DONE_WITH_REFUSED


class _Target:
    """How results are written, by the format of OUT."""

    def __init__(self, arguments: argparse.Namespace, predict: ModuleType, source: Source) -> None:
        wanted = format_of(str(arguments.output))
        columns: list[OutputColumn] = []
        if wanted != JSON_LINES:
            columns = output_columns(
                predict.Prediction, arguments.id, integer_ids=source.integer_ids
            )
        self.header = csv_line([each.name for each in columns]) if wanted == CSV else b""
        self.encode: Encode = csv_lines(columns) if wanted == CSV else json_lines(arguments.id)
        self.convert: Convert | None = None
        if wanted == PARQUET:
            parquet.library()
            self.convert = functools.partial(parquet.write, columns=columns)


async def _run(
    scorer: Scorer,
    draft: Draft,
    source: Source,
    target: _Target,
    identity: Mapping[str, Any],
    recorded: Mapping[str, Any] | None,
    stopping: Callable[[], bool],
) -> bool:
    """Score the rows that are left, and return whether none are."""
    async with scorer.open():
        batch_size = scorer.engine.max_batch_size
        if recorded is not None and recorded["batch_size"] != batch_size:
            raise CannotScore(
                f"the model gets {batch_size} rows at a time, {recorded['batch_size']} when the "
                "run began: --overwrite begins anew"
            )
        draft.open({**identity, "batch_size": batch_size}, target.header)
        progress = Progress(draft.rows)
        run = Run(scorer, draft, target.encode, progress, stopping)
        try:
            return await run.score(source.rows(draft.rows))
        finally:
            progress.show(draft.rows, draft.refused, last=True)


def _check(arguments: argparse.Namespace, settings: Settings) -> None:
    """Check the arguments, before anything takes long.

    Raises:
        CannotScore: they cannot be used.
    """
    if not settings.predict_endpoint:
        raise CannotScore(
            f"{PREFIX}PREDICT_ENDPOINT is false, and score needs the predict.py of this model"
        )
    output: Path = arguments.output
    for name in (arguments.input, str(output)):
        format_of(name)
    if not output.parent.is_dir():
        raise CannotScore(f"the folder {output.parent} does not exist")
    if arguments.input == STANDARD_INPUT:
        return
    if not Path(arguments.input).is_file():
        raise CannotScore(f"{arguments.input} is not a file; - is standard input")
    if output.exists() and output.samefile(arguments.input):
        raise CannotScore("IN and OUT are the same file")


def _identity(
    arguments: argparse.Namespace, settings: Settings, predict: ModuleType
) -> dict[str, Any]:
    """Return what makes a run what it is."""
    is_file = arguments.input != STANDARD_INPUT
    return {
        "input": digest(Path(arguments.input)) if is_file else STANDARD_INPUT,
        "changed": _changed(arguments.input),
        "model": digest(settings.model_dir / FILE_NAME),
        "predict": digest(Path(inspect.getfile(predict))),
        "options": [arguments.id, arguments.drop],
    }


def _check_same(
    recorded: Mapping[str, Any], identity: Mapping[str, Any], settings: Settings
) -> None:
    """Check that an interrupted run can go on.

    Raises:
        CannotScore: something is not as it was.
    """
    for part, words in _PARTS.items():
        if recorded[part] != identity[part]:
            raise CannotScore(
                f"{words} differs from that of the unfinished run: --overwrite begins anew"
            )
    size = recorded["batch_size"]
    if settings.max_batch_size not in (0, size):
        raise CannotScore(
            f"{PREFIX}MAX_BATCH_SIZE is {settings.max_batch_size}, the unfinished run has batches "
            f"of {size}: set it to that, or --overwrite begins anew"
        )


def _check_unchanged(name: str, identity: Mapping[str, Any]) -> None:
    if _changed(name) != identity["changed"]:
        raise CannotScore(f"{name} was changed while it was read: --overwrite begins anew")


def _changed(name: str) -> list[int]:
    """Return the size of a file and when it was changed."""
    if name == STANDARD_INPUT:
        return []
    found = Path(name).stat()
    return [found.st_size, found.st_mtime_ns]


def _for_scoring(settings: Settings, recorded: Mapping[str, Any] | None) -> Settings:
    """Return the settings of the one process that scores."""
    changes: dict[str, Any] = {"workers": 1, "max_queue_size": _UNBOUNDED}
    if recorded is not None:
        changes["max_batch_size"] = recorded["batch_size"]
    return settings.model_copy(update=changes)


@contextmanager
def _signals(*, at_once: bool) -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM end the run behind a batch, and a second one at once.

    ``at_once``: also the first one, as standard input may have nothing for long.
    """
    count = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if at_once or count > 1:
            raise KeyboardInterrupt

    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, stop) for name in names}
    try:
        yield lambda: count > 0
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
