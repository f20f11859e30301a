"""Which columns or keys of a row are the instance, and which one is its id."""

from collections.abc import Sequence
from typing import Any, Final

from service.scoring.errors import CannotScore, Refusal, Row
from service.scoring.fields import Fields


class Wanted:
    """What the options of the command ask for. ``id``: of `--id`; ``drop``: of `--drop`.

    Raises:
        CannotScore: `--drop` names a field of the instance.
    """

    def __init__(self, fields: Fields, id: str | None, drop: Sequence[str]) -> None:
        if dropped := [name for name in drop if name in fields]:
            raise CannotScore(f"--drop names '{dropped[0]}', which is a field of Instance")
        self.fields: Final = fields
        self.id: Final = id
        self.left_out: Final = tuple(drop) if id is None else (*drop, id)
        """Columns that need not be fields of the instance."""

    def row(self, number: int, value: Any) -> Row:
        """Make a row of its JSON."""
        if not self.left_out or not isinstance(value, dict):
            return Row(number, value)
        found = None
        if self.id is not None:
            found = value.get(self.id)
            if not isinstance(found, str | int):
                problem = Refusal(422, f"The row has no text or integer '{self.id}', its id.")
                return Row(number, value, problem)
        for name in self.left_out:
            if name not in self.fields:
                value.pop(name, None)
        return Row(number, value, id=found)
