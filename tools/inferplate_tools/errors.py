"""The error of a check."""

from inferplate.errors import InferplateError


class CheckFailed(InferplateError):
    """A check failed: the first line says why, the rest shows it."""
