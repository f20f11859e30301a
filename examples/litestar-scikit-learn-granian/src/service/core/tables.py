"""Tables: models that were trained on named columns, with a tensor for each of them.

A column of text is BYTES. A value that is missing is NaN in a column of floats, and None in a
column of text. The protocol has no None: there, an empty text is missing, unless the column has an
empty text among its categories, or cannot have missing values.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.core.errors import Refused
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Array, Feature, Tensors, TensorSpec, decode_text

Category = str | int | float

UNKNOWN: Final = "is not a category that the model was trained on"


def column_specs(features: Iterable[Feature]) -> tuple[TensorSpec, ...]:
    """Return the inputs of a model that takes a tensor for each column."""
    return tuple(TensorSpec(feature.name, feature.datatype, (-1,)) for feature in features)


def wants_frame(manifest: Manifest) -> bool:
    """Return whether the manifest has a tensor for each column, by its parameter ``frame``.

    Raises:
        ArtifactError: the parameter is not a boolean.
    """
    return frame_parameter(manifest.parameters) is True


def frame_parameter(parameters: dict[str, Any]) -> bool | None:
    """Return the parameter ``frame``, None if it is not given.

    Raises:
        ArtifactError: it is not a boolean.
    """
    value = parameters.get("frame")
    if not (value is None or isinstance(value, bool)):
        raise ArtifactError("the parameter 'frame' is true or false")
    return value


def check_columns(manifest: Manifest, features: Sequence[Feature]) -> None:
    """Check that a column is text in the manifest exactly if it is text for the model.

    Raises:
        ArtifactError: a column has the other kind.
    """
    declared = {spec.name: spec.datatype for spec in manifest.input_specs()}
    for feature in features:
        datatype = declared.get(feature.name, feature.datatype)
        if (datatype == "BYTES") != (feature.datatype == "BYTES"):
            kind = "text (BYTES)" if feature.datatype == "BYTES" else "numbers"
            raise ArtifactError(f"the column '{feature.name}' has {kind} in the model")


def numbers(features: Sequence[Feature], columns: Tensors, dtype: npt.DTypeLike) -> Array:
    """Return columns as a matrix with the codes of categories, their positions in the list.

    Missing values are NaN.

    Raises:
        Refused: a value is not among the categories of its column.
    """
    matrix = np.empty((len(columns[features[0].name]), len(features)), dtype)
    for index, feature in enumerate(features):
        column = columns[feature.name]
        matrix[:, index] = _codes(feature, column) if feature.categories else column
    return matrix


def check_codes(features: Sequence[Feature], matrix: Array) -> None:
    """Check the codes in a matrix whose columns have categories. Missing values are NaN.

    Raises:
        Refused: a value is not a code of its column.
    """
    for index, feature in enumerate(features):
        if feature.categories:
            column = matrix[:, index]
            wrong = ~(np.isin(column, feature.categories) | np.isnan(column))
            if wrong.any():
                raise Refused(UNKNOWN, field=feature.name, instance=int(np.argmax(wrong)))


def texts(feature: Feature, column: Array, missing: object) -> Array:
    """Return a column of text as ``str``, with ``missing`` for values that are missing.

    Raises:
        InvalidTensors: an element is not UTF-8.
    """
    empty_is_missing = feature.optional and "" not in feature.categories
    absent = np.array([not value if empty_is_missing else value is None for value in column], bool)
    if not absent.any():
        return decode_text(feature.name, column)
    result = np.empty(len(column), object)
    result[absent] = [missing] * int(absent.sum())
    result[~absent] = decode_text(feature.name, column[~absent])
    return result


def pandas() -> Any:
    """Return the module pandas.

    Raises:
        ArtifactError: it is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise ArtifactError(
            "the model takes a DataFrame, and pandas is not installed: uv add pandas"
        ) from None
    return pd


def frame(columns: dict[str, Array]) -> Any:
    """Return a pandas DataFrame.

    Raises:
        ArtifactError: pandas is not installed.
    """
    pd = pandas()
    blocks: dict[np.dtype[Any], list[str]] = {}
    for name, column in columns.items():
        blocks.setdefault(column.dtype, []).append(name)
    # A block at a time is much faster than a column. With a dtype, pandas 3 keeps None as it is.
    parts = [
        pd.DataFrame(np.column_stack([columns[name] for name in names]), None, names, dtype)
        for dtype, names in blocks.items()
    ]
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)[list(columns)]


def unknown(name: str, categories: Sequence[object], column: Array) -> Refused | None:
    """Return the refusal of the first value of a column that is not among its categories."""
    known = set(categories)
    for row, value in enumerate(column.tolist()):
        if not (is_missing(value) or value in known):
            return Refused(UNKNOWN, field=name, instance=row)
    return None


def is_missing(value: object) -> bool:
    """Return whether a value is None or NaN."""
    return value is None or value != value  # NaN differs from itself


def _codes(feature: Feature, column: Array) -> list[float]:
    """Return the position of each value in the list of categories, NaN if it is missing."""
    if feature.datatype == "BYTES":
        column = texts(feature, column, None)
    codes: dict[Any, float] = {value: code for code, value in enumerate(feature.categories)}
    found = []
    for row, value in enumerate(column.tolist()):
        code = np.nan if is_missing(value) else codes.get(value)
        if code is None:
            raise Refused(UNKNOWN, field=feature.name, instance=row)
        found.append(code)
    return found
