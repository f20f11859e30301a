"""Inputs to try a model with before it serves: the owner's examples, and made-up ones."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from service.core.errors import InvalidTensors
from service.core.manifest import ArtifactError
from service.core.tensors import (
    Array,
    Feature,
    Tensors,
    TensorSpec,
    batchable,
    check_inputs,
)

FILE_NAME: Final = "examples.npz"
"""A file beside the manifest: an array for each input, with an example in each row."""

_ROWS: Final = 8
_SEED: Final = 0
_ATTEMPTS: Final = (
    (3, 16, 1),
    (3, 16, 30),
    (3, 16, 1000),
    (3, 2, 1),
    (1, 2, 1),
    (8, 2, 1),
    (64, 2, 1),
    (1, 1, 1),
)
"""Size of variable dimensions, bound of integers and magnitude of floats, as they are tried.

One element is tried late: with it, a model that mixes up its axes may still seem right.
"""


class Examples(NamedTuple):
    """Inputs of a model.

    ``rows``: an example in each row, if the first axis is a batch. ``single``: what one request may
    have, whatever the first axis is. ``source``: what messages call them. ``given``: whether they
    are real, so that the model must be able to run on them.
    """

    rows: Tensors
    single: Tensors
    source: str
    given: bool


def read(folder: Path, specs: Sequence[TensorSpec]) -> Iterator[Examples]:
    """Read the examples beside a manifest, if there are any.

    Raises:
        ArtifactError: they are not inputs of the model.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    by_name = {spec.name: spec for spec in specs}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: _convert(array, by_name.get(name)) for name, array in arrays.items()}
        check_inputs(specs, tensors)
        if any(array.shape[:1] == (0,) for array in tensors.values()):
            raise InvalidTensors("The examples have no rows.")
    except InvalidTensors as error:
        raise ArtifactError(f"{path}: {error.detail}") from error
    except Exception as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    yield Examples(tensors, tensors, str(path), given=True)


def varied(examples: Examples) -> Examples:
    """Make rows up that resemble the first example: of its shape, and in its range."""
    random = np.random.default_rng(_SEED)
    rows = {
        name: _vary(array[:1].repeat(_ROWS, axis=0), random) if array.ndim else array
        for name, array in examples.rows.items()
    }
    return Examples(rows, examples.single, f"rows like {examples.source}", given=False)


def made_up(specs: Sequence[TensorSpec], features: Sequence[Feature] = ()) -> Iterator[Examples]:
    """Make rows up in several ways: a model may fail on some, or give the same for all of them.

    ``features``: the columns that a model describes; they get values that they may have.
    """
    has_rows = batchable(specs)
    has_sizes = not has_rows or any(-1 in spec.shape[1:] for spec in specs)
    kinds = {spec.dtype.kind for spec in specs}
    attempts = [
        (size * has_sizes, bound * bool(kinds & {"i", "u"}), magnitude * ("f" in kinds))
        for size, bound, magnitude in _ATTEMPTS
    ]
    for size, bound, magnitude in dict.fromkeys(attempts):
        random = np.random.default_rng(_SEED)
        tensors = {}
        for spec in specs:
            first, *rest = spec.shape or (1,)
            shape = [(_ROWS if has_rows else size) if first == -1 else first]
            shape += [size if given == -1 else given for given in rest]
            array = _make_up(spec, shape, bound, magnitude, random)
            for column, feature in _columns(spec, array, features):
                _fill(column, feature, random)
            tensors[spec.name] = array if spec.shape else array.reshape(())
        yield Examples(tensors, tensors, "made-up rows", given=False)


def _make_up(
    spec: TensorSpec,
    shape: Sequence[int],
    bound: int,
    magnitude: float,
    random: np.random.Generator,
) -> Array:
    values: Array
    match spec.dtype.kind:
        case "O":
            rows = np.arange(math.prod(shape)) % _ROWS
            texts = [" ".join(map(str, range(row + 1))).encode() for row in rows]
            return _object_array(texts).reshape(shape)
        case "f":
            values = magnitude * random.standard_normal(shape)
            for row in range(len(values)):  # of different magnitude, and half without negatives
                values[row] *= 4.0 ** (row % 3 - 1)
                values[row] = abs(values[row]) if row % 2 else values[row]
        case "b":
            values = random.integers(0, 2, shape)
        case _:
            values = random.integers(0, bound, shape)
    return np.asarray(values, dtype=spec.dtype)


def _columns(
    spec: TensorSpec, array: Array, features: Sequence[Feature]
) -> Iterator[tuple[Array, Feature]]:
    """Yield the columns of a tensor that are described: it is one of them, or has all of them."""
    if array.ndim == 1:
        yield from ((array, feature) for feature in features if feature.name == spec.name)
    elif array.ndim == 2 and array.shape[1] == len(features):
        yield from zip(array.T, features, strict=True)


def _fill(column: Array, feature: Feature, random: np.random.Generator) -> None:
    """Fill a column with values among its categories, or within its bounds, if it has any."""
    if feature.categories:
        chosen = random.integers(0, len(feature.categories), len(column))
        values = [feature.categories[index] for index in chosen]
        column[:] = [v.encode() if isinstance(v, str) else v for v in values]
    elif feature.minimum is not None and feature.maximum is not None:
        column[:] = random.uniform(feature.minimum, feature.maximum, len(column))


def _vary(rows: Array, random: np.random.Generator) -> Array:
    match rows.dtype.kind:
        case "O":
            return rows
        case "f":
            return np.asarray(rows * random.uniform(0, 4, rows.shape), dtype=rows.dtype)
        case "b":
            return random.integers(0, 2, rows.shape).astype(bool)
        case _:
            largest = rows.max(initial=0)
            return random.integers(0, largest, rows.shape, rows.dtype, endpoint=True)


def _convert(array: Array, spec: TensorSpec | None) -> Array:
    """Return an array with the datatype of an input, where NumPy's rules allow it."""
    if array.dtype.kind == "U":
        return _object_array([text.encode() for text in array.flat]).reshape(array.shape)
    if spec is None or not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        return array
    return array.astype(spec.dtype)


def _object_array(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array
