"""Why a file cannot be scored, or a row of it."""

from typing import Any, NamedTuple


class CannotScore(Exception):
    """The run ends. The text is one line that says why, and what would help."""


class Refusal(NamedTuple):
    """Why a row has no prediction, as /predict says it.

    ``errors``: the wrong fields, each with ``field`` and ``reason``; fields are named from the
    instance. ``status``: that of the response.
    """

    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()


class Row(NamedTuple):
    """A row of the file. ``number``: counted from 1.

    ``instance``: its fields, as JSON has them. ``refusal``: why there are none, or not all.
    ``text``: the row as it is written, if it could not be read. ``id``: of `--id`.
    """

    number: int
    instance: Any = None
    refusal: Refusal | None = None
    text: str | None = None
    id: Any = None
