"""Tries a model before it serves: may requests share a batch, and how long do batches take?

The first axis of a model's tensors may be a batch. It may also be time, or the points, queries or
detections of one example: requests that ran together would then get each other's answers. Neither
names nor shapes tell them apart, so the model is run: several rows together must give what each of
them gives alone. If they do not, or if nothing can be shown, every request runs by itself.
"""

import functools
import math
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from service.core.examples import FILE_NAME, Examples
from service.core.manifest import ArtifactError, Manifest
from service.core.padding import padded
from service.core.run import Run
from service.core.tensors import Array, Tensors, batchable
from service.core.warmup import DEFAULT_MAX_BATCH_SIZE, warm_up

_MIN_ROWS: Final = 3
_PATIENCE: Final = 2.0
"""Seconds after which a slow model is run on `_MIN_ROWS` rows only, and nothing more is made up."""
_NOISE: Final = 1e-6
"""Rounding differs with the size of a batch, also where an output has no range."""
_REMEDY: Final = f"give real ones in {FILE_NAME} beside the manifest"


class Verdict(NamedTuple):
    """What a trial showed.

    ``batched``: whether requests may share a batch. ``reason``: why not, or what stays in doubt
    although the manifest insists; empty if nothing does. ``timings``: seconds per batch, by its
    number of rows; empty if the model was not warmed up.
    """

    batched: bool
    reason: str
    timings: dict[int, float]


class NotABatch(Exception):
    """The first axis is not a batch. The text says how that showed."""


class Rows:
    """Rows of a model's inputs, and what the model answers to each of them alone.

    ``tolerance``: how far an answer may differ in a batch, as a part of the output's range.
    """

    def __init__(self, run: Run, inputs: Tensors, tolerance: float) -> None:
        """Run each row alone.

        Raises:
            NotABatch: a row of the inputs does not give one row of each output, or there are not
                equally many of each input.
        """
        answers: list[Tensors] = []
        began = time.monotonic()
        if len(set(map(len, inputs.values()))) > 1:
            raise NotABatch("the first axes of its inputs differ")
        for row in range(len(next(iter(inputs.values())))):
            if row >= _MIN_ROWS and time.monotonic() - began > _PATIENCE:
                break
            answers.append(run({name: array[row : row + 1] for name, array in inputs.items()}))
        self._inputs: Final = inputs
        self._count: Final = len(answers)
        self._alone: Final = {
            name: _stack(name, [answer[name] for answer in answers]) for name in answers[0]
        }
        self._allowed: Final = {
            name: _allowed(alone, tolerance) for name, alone in self._alone.items()
        }

    def batch(self, size: int) -> Tensors:
        """Return a batch of so many rows, the last first, repeated as necessary."""
        order = self._order(size)
        return {name: array[order] for name, array in self._inputs.items()}

    def prove(self, run: Run, size: int) -> None:
        """Run a batch of so many rows, which must give what each of them gives alone.

        Raises:
            NotABatch: it fails, or gives something else.
        """
        try:
            outputs = run(self.batch(size))
        except Exception as error:
            raise NotABatch(f"a batch of {size} rows fails: {_one_line(error)}") from error
        order = self._order(size)
        for name, alone in self._alone.items():
            together, expected = outputs[name], alone[order]
            if together.shape != expected.shape:
                raise NotABatch(
                    f"{size} rows together give the output '{name}' the shape "
                    f"{list(together.shape)}, each of them alone {list(alone[:1].shape)}"
                )
            if not self._close(name, together, expected):
                raise NotABatch(f"the output '{name}' of a row depends on the rows beside it")

    def unchanging(self) -> str | None:
        """Return the name of an output that is the same for all rows, and so proves nothing."""
        for name, alone in self._alone.items():
            if self._close(name, alone, np.broadcast_to(alone[:1], alone.shape)):
                return name
        return None

    def __len__(self) -> int:
        return self._count

    def _order(self, size: int) -> Array:
        return np.arange(size)[::-1] % self._count

    def _close(self, name: str, found: Array, expected: Array) -> bool:
        if found.dtype.kind != "f":
            return np.array_equal(found, expected)
        return np.allclose(found, expected, rtol=0, atol=self._allowed[name], equal_nan=True)


def try_out(
    run: Run,
    manifest: Manifest,
    candidates: Iterable[Examples],
    *,
    warmup: bool = False,
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    budget: float = math.inf,
) -> Verdict:
    """Find out whether requests may share a batch, and warm the model up.

    ``candidates``: inputs to run, the owner's first. ``max_batch_size`` and ``budget``: those of
    the warm-up.

    Raises:
        ArtifactError: the model fails on the owner's examples or does not fit its manifest, or the
            manifest insists on batches that the model cannot have.
    """
    largest = max_batch_size
    insists = manifest.batch == "always"
    candidates = list(candidates)
    rows: Rows | None = None
    reason = _exclusion(manifest)
    if not reason:
        try:
            together = padded(run, largest) if manifest.pad_batches else run
            rows, reason = _prove(run, together, candidates, manifest.batch_tolerance)
            if rows and (insists or not reason):
                proof = functools.partial(rows.prove, run)
                timings = warm_up(run, rows.batch, proof, largest, budget) if warmup else {}
                return Verdict(True, reason, timings)
        except NotABatch as failure:
            reason = str(failure)
    if insists:
        raise ArtifactError(f"the manifest insists on batches, but {reason}")
    timings = {}
    if warmup and (example := _runnable(run, candidates)):
        timings = warm_up(run, lambda _: example, lambda _: run(example), 1, budget)
    return Verdict(False, reason, timings)


def _exclusion(manifest: Manifest) -> str:
    """Return why requests cannot share a batch, whatever the model does; else nothing."""
    if manifest.batch == "never":
        return "the manifest says so"
    for spec in (*manifest.input_specs(), *manifest.output_specs()):
        if not batchable([spec]):
            return f"the first axis of '{spec.name}' is fixed"
    return ""


def _prove(
    run: Run, together: Run, candidates: Iterable[Examples], tolerance: float
) -> tuple[Rows | None, str]:
    """Prove that the first axis is a batch. ``together`` runs several rows, as requests will be.

    Returns:
        Rows that ran, if any did, and what stays in doubt; nothing if it is proven.

    Raises:
        NotABatch: it is not.
        ArtifactError: the model fails on the owner's examples, or does not fit its manifest.
    """
    rows: Rows | None = None
    doubt = ""
    failure: Exception | None = None
    began = time.monotonic()
    for examples in candidates:
        if rows and not examples.given and time.monotonic() - began > _PATIENCE:
            break
        try:
            rows = Rows(run, examples.rows, tolerance)
        except NotABatch:
            raise
        except Exception as error:
            failure = _failure(examples, error)
            doubt = doubt or f"the model fails on {examples.source} ({_one_line(error)}); {_REMEDY}"
            continue
        for size in sorted({2, 3, len(rows)}):
            rows.prove(together, size)
        unchanging = rows.unchanging()
        if unchanging is None:
            return rows, ""
        doubt = f"the output '{unchanging}' is the same for all {examples.source}; {_REMEDY}"
    if rows is None and isinstance(failure, ArtifactError):
        raise failure
    return rows, doubt


def _runnable(run: Run, candidates: Iterable[Examples]) -> Tensors | None:
    """Return the first inputs on which the model runs.

    Raises:
        ArtifactError: it fails on the owner's examples, or does not fit its manifest.
    """
    failure: Exception | None = None
    for examples in candidates:
        try:
            run(examples.single)
        except Exception as error:
            failure = _failure(examples, error)
        else:
            return examples.single
    if isinstance(failure, ArtifactError):
        raise failure
    return None


def _failure(examples: Examples, error: Exception) -> Exception:
    """Return an error that made-up inputs may cause; raise it if the inputs are real."""
    if not examples.given:
        return error
    raise ArtifactError(f"the model fails on {examples.source}: {_one_line(error)}") from error


def _stack(name: str, answers: Sequence[Array]) -> Array:
    """Join what one row gave each time. It is copied: the runtime may use the memory again."""
    for answer in answers:
        if answer.shape != (1, *answers[0].shape[1:]):
            raise NotABatch(
                f"one row gives the output '{name}' the shape {list(answer.shape)}"
                + (f", another {list(answers[0].shape)}" if answer is not answers[0] else "")
            )
    return np.concatenate(answers)


def _allowed(alone: Array, tolerance: float) -> float:
    """Return by how much an output may differ."""
    if alone.dtype.kind != "f":
        return 0.0
    finite = alone[np.isfinite(alone)].astype(np.float64)
    if not finite.size:
        return 0.0
    return float(tolerance * np.ptp(finite) + _NOISE * np.abs(finite).max())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
