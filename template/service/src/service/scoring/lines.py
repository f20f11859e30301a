"""Reads JSON lines: one instance a line, as strictly as the service reads a body."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from service.core.errors import ServiceError
from service.ops.settings import PREFIX, Settings
from service.scoring.errors import Refusal, Row
from service.scoring.refusals import refusal_of
from service.scoring.wanted import Wanted
from service.web.strict_json import SEPARATORS, check_json

_BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 1000
"""Bytes of a line that is too long which the refusal repeats."""
_STEP: Final = 2**20


class LinesSource:
    """Rows of JSON lines. Lines with nothing but white space are not counted."""

    integer_ids: Final = False

    def __init__(self, file: BinaryIO, wanted: Wanted, settings: Settings) -> None:
        self._file: Final = file
        self._wanted: Final = wanted
        self._max_bytes: Final = settings.max_json_bytes
        self._max_values: Final = settings.max_predict_values

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield the rows after the first ``skip``."""
        number = 0
        first = True
        while line := self._file.readline(self._max_bytes + 1):
            if first:
                line, first = line.removeprefix(_BOM), False
            too_long = len(line) > self._max_bytes and not line.endswith(b"\n")
            if too_long:
                self._skip_line()
            line = line.strip(b" \t\r\n")
            if not line and not too_long:
                continue
            number += 1
            if number <= skip:
                continue
            yield self._too_long(number, line) if too_long else self._row(number, line)

    def _skip_line(self) -> None:
        while (rest := self._file.readline(_STEP)) and not rest.endswith(b"\n"):
            pass

    def _too_long(self, number: int, line: bytes) -> Row:
        limit = f"The row has more than {self._max_bytes} bytes ({PREFIX}MAX_JSON_BYTES)."
        return Row(number, refusal=Refusal(413, limit), text=_text(line[:_SHOWN]) + "…")

    def _row(self, number: int, line: bytes) -> Row:
        if len(line) > self._max_values and self._has_too_many_values(line):
            limit = f"The row has more than {self._max_values} values ({PREFIX}MAX_PREDICT_VALUES)."
            return Row(number, refusal=Refusal(413, limit), text=_text(line))
        try:
            value: Any = check_json(line)
        except ServiceError as error:
            status, detail, errors = refusal_of(error)
            refusal = Refusal(status, detail.replace("The body", "The row"), errors)
            return Row(number, refusal=refusal, text=_text(line))
        return self._wanted.row(number, value)

    def _has_too_many_values(self, line: bytes) -> bool:
        return sum(map(line.count, SEPARATORS)) > self._max_values


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
