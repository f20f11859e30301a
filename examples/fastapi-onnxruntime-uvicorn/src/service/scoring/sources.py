"""Opens the file to score, by the end of its name."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from service.ops.settings import Settings
from service.scoring.errors import CannotScore, Row
from service.scoring.lines import LinesSource
from service.scoring.parquet import ParquetSource
from service.scoring.table import TableSource
from service.scoring.wanted import Wanted

STANDARD_INPUT: Final = "-"
JSON_LINES: Final = "JSON lines"
CSV: Final = "CSV"
PARQUET: Final = "Parquet"

_FORMATS: Final = {".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".csv": CSV, ".parquet": PARQUET}


class Source(Protocol):
    """Rows of a file. ``integer_ids``: whether all ids are integers."""

    @property
    def integer_ids(self) -> bool: ...

    def rows(self, skip: int) -> Iterator[Row]:
        """Yield the rows after the first ``skip``.

        Raises:
            CannotScore: the rest of the file cannot be read.
        """
        ...


def format_of(name: str) -> str:
    """Return the format of a file.

    Raises:
        CannotScore: the end of its name is not that of a format.
    """
    if name == STANDARD_INPUT:
        return JSON_LINES
    found = _FORMATS.get(Path(name).suffix.lower())
    if found is None:
        raise CannotScore(f"{name} must end with {', '.join(_FORMATS)}")
    return found


@contextmanager
def open_source(name: str, wanted: Wanted, settings: Settings) -> Iterator[Source]:
    """Open a file to score.

    Raises:
        CannotScore: it does not fit the instance.
        OSError: it cannot be opened.
    """
    if name == STANDARD_INPUT:
        yield LinesSource(sys.stdin.buffer, wanted, settings)
        return
    path = Path(name)
    match format_of(name):
        case "JSON lines":
            with path.open("rb") as file:
                yield LinesSource(file, wanted, settings)
        case "CSV":
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield TableSource(text, wanted, settings)
        case _:
            with path.open("rb") as file:
                yield ParquetSource(file, wanted)
