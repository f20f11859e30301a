"""Makes instances up, as a client would send them, to ask the model what it answers."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from service.core.examples import Examples
from service.core.tensors import Array, Feature
from service.scaffold.plan import Arrays, Plan, Table
from service.scaffold.predict_text import FIELD_OF_ALL, field_names

_SEED: Final = 0
_ROWS: Final = 6
_FEW: Final = 20
"""With more values than these, the first instance has equal ones, which are short to write."""
_DIGITS: Final = 4


def instances(plan: Plan, candidates: Sequence[Examples]) -> Iterator[dict[str, Any]]:
    """Return instances in JSON. ``candidates``: inputs of the model, the owner's first."""
    if isinstance(plan.instance, Arrays):
        yield from _from_arrays(plan, plan.instance, candidates)
        return
    rows = list(_given_rows(plan.instance, candidates)) or list(_made_up_rows(plan.instance))
    for row in rows:
        if plan.instance.one_field:
            yield {FIELD_OF_ALL: dict(zip(_names(plan.instance), row, strict=True))}
        else:
            yield dict(zip(field_names(plan), row, strict=True))


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _given_rows(table: Table, candidates: Sequence[Examples]) -> Iterator[list[Any]]:
    """Return rows of the owner's examples, with None for values that are missing."""
    for examples in candidates:
        if not examples.given:
            continue
        if table.matrix is None:
            columns = [examples.rows[name] for name in _names(table)]
        else:
            columns = list(examples.rows[table.matrix.name].T)
        for row in range(min(len(columns[0]), _ROWS)):
            values = [_plain(column[row]) for column in columns]
            yield [
                None if (column.optional and value in (None, "")) or value != value else value
                for column, value in zip(table.columns, values, strict=True)
            ]


def _made_up_rows(table: Table) -> Iterator[list[Any]]:
    """Make rows up from what the columns may have. The last has no value where none is needed."""
    random = np.random.default_rng(_SEED)
    if table.one_field:
        yield [0.5] * len(table.columns)
    for row in range(_ROWS):
        values = [_value(column, row + place, random) for place, column in enumerate(table.columns)]
        if row == _ROWS - 1:
            values = [
                None if column.optional else value
                for column, value in zip(table.columns, values, strict=True)
            ]
        yield values


def _value(column: Feature, row: int, random: np.random.Generator) -> Any:
    if column.categories:
        return column.categories[row % len(column.categories)]
    low, high = column.minimum, column.maximum
    if low is None or high is None:
        low = low if low is not None else 0.0 if high is None else high - 10
        high = low + 10
    match column.datatype[0]:
        case "B":
            return bool(row % 2) if column.datatype == "BOOL" else "text"
        case "F":
            return min(max(_rounded(random.uniform(low, high)), low), high)
        case _:
            return int(random.integers(int(low), int(high), endpoint=True))


def _from_arrays(
    plan: Plan, arrays: Arrays, candidates: Sequence[Examples]
) -> Iterator[dict[str, Any]]:
    fields = dict(zip(field_names(plan), arrays.inputs, strict=True))
    for examples in candidates:
        if not arrays.rows:
            tensors = examples.single
            yield {field: _plain(tensors[spec.name]) for field, spec in fields.items()}
            continue
        count = min(len(array) for array in examples.rows.values())
        rows = [{name: array[row] for name, array in examples.rows.items()} for row in range(count)]
        values = sum(np.size(array) for array in rows[0].values())
        if not examples.given and values > _FEW:
            rows[0] = {name: _constant(array) for name, array in rows[0].items()}
        for row in rows[: _ROWS // 2]:
            yield {field: _plain(row[spec.name]) for field, spec in fields.items()}


def _constant(array: Array) -> Array:
    """Return an array of the same shape with equal values."""
    first = np.asarray(array).reshape(-1)[:1]
    return np.broadcast_to(first, np.shape(array))


def _plain(value: Any) -> Any:
    """Return an array or an element of one as JSON has it, floats with few digits."""
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value] if value.ndim else _plain(value.item())
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.generic):
        value = value.item()
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
