"""Reads CSV: a header with the names of fields, and a row for each instance."""

import csv
from collections.abc import Iterator
from typing import Any, Final, TextIO

from service.ops.settings import Settings
from service.scoring.errors import CannotScore, Refusal, Row
from service.scoring.wanted import Wanted


class TableSource:
    """Rows of CSV, with commas, in UTF-8. Empty lines are not counted.

    An empty cell is null where the field takes null, an empty text where it takes texts only, and
    otherwise the field is not there.

    Raises:
        CannotScore: the header does not fit the instance.
    """

    integer_ids: Final = False

    def __init__(self, file: TextIO, wanted: Wanted, settings: Settings) -> None:
        csv.field_size_limit(settings.max_json_bytes)
        self._reader: Final = csv.reader(file, strict=True)
        header = next(self._records(), [])
        if not header:
            raise CannotScore("IN has no header")
        fields = wanted.fields
        used = fields.used_columns(header, wanted.left_out)
        self._columns: Final = [
            (header.index(name), name, fields.cell(name), fields.takes_null(name), empty)
            for name in used
            for empty in ["" if fields.is_text(name) else None]
        ]
        self._width: Final = len(header)
        self._id: Final = None if wanted.id is None else header.index(wanted.id)

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield the rows after the first ``skip``.

        Raises:
            CannotScore: what follows is not CSV in UTF-8.
        """
        for number, cells in enumerate(self._records(), 1):
            if number > skip:
                yield self._row(number, cells)

    def _row(self, number: int, cells: list[str]) -> Row:
        if len(cells) != self._width:
            detail = f"The row has {len(cells)} cells, the header has {self._width}."
            return Row(number, refusal=Refusal(422, detail), text=",".join(cells))
        instance: dict[str, Any] = {}
        for index, name, convert, takes_null, empty in self._columns:
            if text := cells[index]:
                instance[name] = convert(text)
            elif takes_null:
                instance[name] = None
            elif empty is not None:
                instance[name] = empty
        return Row(number, instance, id=None if self._id is None else cells[self._id])

    def _records(self) -> Iterator[list[str]]:
        try:
            for cells in self._reader:
                if cells:
                    yield cells
        except csv.Error as error:
            raise CannotScore(f"line {self._reader.line_num} of IN is not CSV: {error}") from None
        except UnicodeDecodeError:
            near = self._reader.line_num
            raise CannotScore(f"IN is not UTF-8, somewhere after its line {near}") from None
