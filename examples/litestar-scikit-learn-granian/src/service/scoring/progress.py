"""Says how far a run is, on standard error."""

import sys
import time
from typing import Final, TextIO

_AT_A_TERMINAL: Final = 1.0
_IN_A_LOG: Final = 10.0
"""Seconds between two lines."""
_WIDTH: Final = 70


class Progress:
    """Rows so far, and how many a second. ``rows``: those that an earlier run has done."""

    def __init__(self, rows: int, stream: TextIO | None = None) -> None:
        self._stream: Final = stream or sys.stderr
        self._is_terminal: Final = self._stream.isatty()
        self._interval: Final = _AT_A_TERMINAL if self._is_terminal else _IN_A_LOG
        self._before: Final = rows
        self._began: Final = time.monotonic()
        self._last = self._began
        self._has_line = False

    def show(self, rows: int, refused: int, *, last: bool = False) -> None:
        """Write a line, if it is time for one, or this is the ``last``."""
        now = time.monotonic()
        if not last and now - self._last < self._interval:
            return
        self._last = now
        rate = (rows - self._before) / max(now - self._began, 1e-9)
        line = f"{rows:,} rows, {rate:,.0f} rows/s, {refused:,} refused"
        if self._is_terminal:
            self._stream.write(f"\r{line:<{_WIDTH}}" + ("\n" if last else ""))
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
        self._has_line = self._is_terminal and not last

    def end_line(self) -> None:
        """Go to a new line, if one at a terminal is not ended."""
        if self._has_line:
            self._stream.write("\n")
            self._has_line = False
