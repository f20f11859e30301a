"""What the command line tells in one line instead of a traceback."""

import difflib
from collections.abc import Sequence


class InferplateError(Exception):
    """Something that the caller can put right; the text is one line and says what."""


def unknown(kind: str, value: str, known: Sequence[str]) -> InferplateError:
    """Describe a value that is not among the known ones, with the nearest right spelling."""
    nearest = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known are {', '.join(known)}"
    return InferplateError(f"unknown {kind} {value!r}: {hint}")


class CheckFailed(Exception):
    """A check found something wrong: the first line says what, the rest shows it."""
