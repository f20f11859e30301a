"""Writes results: a line for each row, as JSON or as CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from service.scoring.columns import OutputColumn, text_of
from service.scoring.errors import Row

Encode = Callable[[Row, bytes], bytes]
"""Makes a line of a row and the JSON of its prediction."""


def json_lines(id: str | None) -> Encode:
    """Return what writes JSON lines. ``id``: the name of the member with the id, None for none."""
    member = b"" if id is None else b"," + json.dumps(id).encode("ascii") + b":"

    def encode(row: Row, prediction: bytes) -> bytes:
        found = member and member + text_of(row.id).encode()
        return b'{"row":%d%b,"prediction":%b}\n' % (row.number, found, prediction)

    return encode


def csv_lines(columns: Sequence[OutputColumn]) -> Encode:
    """Return what writes the lines of CSV, without the header."""

    def encode(row: Row, prediction: bytes) -> bytes:
        # An id may have the name of a member, as the row's own are fixed.
        given = {"row": row.number, "prediction": json.loads(prediction)}
        own = {"row": row.number}
        cells = [
            _cell(column.value(given) if column.of_prediction else own.get(column.name, row.id))
            for column in columns
        ]
        return csv_line(cells)

    return encode


def csv_line(cells: Sequence[Any]) -> bytes:
    """Return a line of CSV in UTF-8."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def refused_line(row: Row) -> bytes:
    """Return the line of a row that was refused, which has a refusal."""
    refusal = row.refusal
    if refusal is None:
        raise ValueError(f"row {row.number} was not refused")
    line: dict[str, Any] = {"row": row.number}
    if row.id is not None:
        line["id"] = row.id
    line |= {"status": refusal.status, "detail": refusal.detail}
    if refusal.errors:
        line["errors"] = list(refusal.errors)
    line |= {"instance": row.instance} if row.text is None else {"text": row.text}
    return text_of(line).encode("utf-8", "replace") + b"\n"


def _cell(value: Any) -> Any:
    """Return a value as CSV has it: texts as they are, everything else as in JSON."""
    if value is None or isinstance(value, str):
        return value
    return text_of(value)
