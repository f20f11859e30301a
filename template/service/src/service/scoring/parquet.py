"""Reads and writes Parquet. Only this module imports PyArrow, which is optional."""

import base64
import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final

from service.scoring.columns import OutputColumn
from service.scoring.errors import CannotScore, Refusal, Row
from service.scoring.wanted import Wanted

_READ_ROWS: Final = 4096
"""Rows that are in memory at a time, besides what PyArrow holds of a row group."""
_GROUP_ROWS: Final = 50_000
"""Rows of a row group that is written."""

Convert = Callable[[Any], Any]


class NotJSON(ValueError):
    """A value that JSON does not have. The text is the reason."""


def library() -> Any:
    """Import PyArrow.

    Raises:
        CannotScore: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CannotScore("Parquet needs PyArrow: pip install pyarrow") from None
    return pyarrow


class ParquetSource:
    """Rows of a Parquet file.

    null is left out where the field does not take it. Dates and times become texts, as in JSON.

    Raises:
        CannotScore: the file or its columns do not fit the instance, or PyArrow is missing.
    """

    def __init__(self, file: BinaryIO, wanted: Wanted) -> None:
        arrow = library()
        self._arrow: Final = arrow
        try:
            self._file: Final = arrow.parquet.ParquetFile(file)
        except arrow.ArrowInvalid as error:
            raise CannotScore(f"IN is not Parquet: {error}") from None
        schema = self._file.schema_arrow
        used = wanted.fields.used_columns(schema.names, wanted.left_out)
        self._columns: Final = [
            (name, self._converter(name, schema.field(name).type, wanted), takes_null)
            for name in used
            for takes_null in [wanted.fields.takes_null(name)]
        ]
        self._id: Final = wanted.id
        self._read: Final = used if wanted.id in (None, *used) else [*used, wanted.id]
        self.integer_ids = False
        if wanted.id is not None:
            kind = schema.field(wanted.id).type
            self.integer_ids = arrow.types.is_integer(kind)
            if not (self.integer_ids or _is_text(arrow, kind)):
                raise CannotScore(f"--id {wanted.id}: it is {kind}, an id is a text or an integer")

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield the rows after the first ``skip``."""
        number = 0
        groups: list[int] = []
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if not groups and number + rows <= skip:
                number += rows
            else:
                groups.append(group)
        if not groups:
            return
        try:
            for batch in self._file.iter_batches(_READ_ROWS, groups, self._read):
                values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                for index in range(batch.num_rows):
                    number += 1
                    if number > skip:
                        yield self._row(number, {name: values[name][index] for name in values})
        except (self._arrow.ArrowException, ValueError) as error:
            raise CannotScore(f"after row {number} IN cannot be read: {error}") from None

    def _row(self, number: int, cells: Mapping[str, Any]) -> Row:
        found = None if self._id is None else cells[self._id]
        if self._id is not None and found is None:
            detail = f"The row has no text or integer '{self._id}', its id."
            return Row(number, refusal=Refusal(422, detail), text=str(dict(cells)))
        instance: dict[str, Any] = {}
        wrong: list[dict[str, str]] = []
        for name, convert, takes_null in self._columns:
            value = cells[name]
            if value is None:
                if takes_null:
                    instance[name] = None
                continue
            try:
                instance[name] = convert(value)
            except NotJSON as error:
                instance[name] = str(value)
                wrong.append({"field": name, "reason": str(error)})
        refusal = None
        if wrong:
            count = f"{len(wrong)} field{'s' if len(wrong) > 1 else ''} did not pass validation."
            refusal = Refusal(422, count, tuple(wrong))
        return Row(number, instance, refusal, id=found)

    def _converter(self, name: str, kind: Any, wanted: Wanted) -> Convert:
        """Return what makes the JSON of a value of a type.

        Raises:
            CannotScore: JSON has nothing for it.
        """
        types = self._arrow.types
        if types.is_dictionary(kind):
            return self._converter(name, kind.value_type, wanted)
        if (
            types.is_null(kind)
            or types.is_boolean(kind)
            or types.is_integer(kind)
            or _is_text(self._arrow, kind)
        ):
            return _same
        if types.is_floating(kind):
            return _finite
        if types.is_decimal(kind):
            return _number
        if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
            return _iso
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            item = self._converter(name, kind.value_type, wanted)
            return lambda values: [None if each is None else item(each) for each in values]
        if types.is_struct(kind):
            parts = {
                field.name: self._converter(name, field.type, wanted)
                for field in (kind.field(index) for index in range(kind.num_fields))
            }
            return lambda value: {
                key: None if value[key] is None else part(value[key]) for key, part in parts.items()
            }
        if types.is_map(kind) and _is_text(self._arrow, kind.key_type):
            item = self._converter(name, kind.item_type, wanted)
            return lambda pairs: {key: None if each is None else item(each) for key, each in pairs}
        if types.is_binary(kind) or types.is_large_binary(kind):
            if wanted.fields.is_file(name):
                return lambda content: base64.b64encode(content).decode("ascii")
            raise CannotScore(f"the column '{name}' is {kind}, its field is not a file")
        raise CannotScore(f"the column '{name}' is {kind}, for which JSON has nothing")


def write(lines: BinaryIO, path: Path, columns: list[OutputColumn]) -> None:
    """Write JSON lines, an object with ``columns`` each, as Parquet.

    Raises:
        CannotScore: a value does not fit its column.
    """
    arrow = library()
    types = {"integer": arrow.int64(), "number": arrow.float64(), "boolean": arrow.bool_()}

    def type_of(column: OutputColumn) -> Any:
        single = types.get(column.kind, arrow.string())
        return arrow.list_(single) if column.many else single

    schema = arrow.schema([(column.name, type_of(column)) for column in columns])
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for group in _groups(lines):
            cells = {each.name: [each.value(row) for row in group] for each in columns}
            try:
                writer.write_table(arrow.table(cells, schema), row_group_size=_GROUP_ROWS)
            except (arrow.ArrowException, OverflowError) as error:
                last = group[-1]["row"]
                raise CannotScore(
                    f"rows {group[0]['row']} to {last}: a prediction does not fit its column, "
                    f"write JSON lines: {error}"
                ) from None


def _groups(lines: BinaryIO) -> Iterator[list[Any]]:
    group = []
    for line in lines:
        group.append(json.loads(line))
        if len(group) == _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _is_text(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _same(value: Any) -> Any:
    return value


def _iso(value: datetime.date | datetime.time) -> str:
    return value.isoformat()


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NotJSON("Input should be a finite number")
    return value


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
