"""Errors that the command line prints in one line, without a traceback."""

import difflib
from collections.abc import Sequence


class InferplateError(Exception):
    """An error that the caller can correct. The text is one line and says how."""


def unknown(kind: str, value: str, known: Sequence[str]) -> InferplateError:
    """Describe a value that is not among the known ones, with the nearest right spelling."""
    nearest = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"choose from {', '.join(known)}"
    return InferplateError(f"unknown {kind} {value!r}: {hint}")
