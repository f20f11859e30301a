"""The fields of an instance, and how the columns of a table become them.

The schema of the instance says what a cell of CSV is: it has text only.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from service.scoring.errors import CannotScore

Cell = Callable[[str], Any]
"""Returns the value of a cell that is not empty."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_KINDS: Final = {
    "string": "text",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
    "array": "nested",
    "object": "nested",
}
_ANY: Final = frozenset(_KINDS.values())


class Fields:
    """The fields of an instance by their names in JSON."""

    def __init__(self, instance: type[BaseModel]) -> None:
        whole = instance.model_json_schema(by_alias=True, mode="validation")
        self._definitions: Final[Mapping[str, Any]] = whole.get("$defs", {})
        schema = self._resolved(whole)
        self._properties: Final[Mapping[str, Any]] = schema.get("properties", {})
        self._required: Final[list[str]] = schema.get("required", [])
        self._takes_others: Final = bool(schema.get("additionalProperties", False))
        self._kinds: Final = {
            name: self._kinds_of(field) for name, field in self._properties.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._properties

    def is_file(self, name: str) -> bool:
        """Return whether a field holds a file, which is base64 in JSON."""
        schemas = [self._properties[name], *self._properties[name].get("anyOf", ())]
        return any(self._resolved(each).get("contentEncoding") == "base64" for each in schemas)

    def takes_null(self, name: str) -> bool:
        """Return whether null is a value of a field."""
        return "null" in self._kinds[name]

    def is_text(self, name: str) -> bool:
        """Return whether all values of a field are texts, and null."""
        return self._kinds[name] - {"null"} == {"text"}

    def used_columns(self, names: Iterable[str], left_out: Iterable[str]) -> list[str]:
        """Return the columns that are fields. ``left_out``: those that need not be.

        Raises:
            CannotScore: a column is repeated or is not a field, or a field has no column.
        """
        names, left_out = list(names), set(left_out)
        if not self._properties:
            raise CannotScore("Instance has no fields that columns could be: use JSON lines")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise CannotScore(f"the column {_listed(repeated)} is there more than once")
        if unknown := sorted(left_out - set(names)):
            raise CannotScore(f"IN has no column {_listed(unknown)}, only {_listed(names)}")
        used = [name for name in names if name in self or name not in left_out]
        if surplus := [name for name in used if name not in self]:
            remedy = (
                "use JSON lines for fields that Instance does not name"
                if self._takes_others
                else f"leave columns out with --drop {','.join(surplus)}"
            )
            raise CannotScore(f"Instance has no field {_listed(surplus)}: {remedy}")
        if missing := [name for name in self._required if name not in names]:
            raise CannotScore(f"IN has no column {_listed(missing)}, which Instance requires")
        return used

    def cell(self, name: str) -> Cell:
        """Return what makes a value of a cell of CSV.

        A cell that cannot be such a value stays a text, for the instance to refuse it.

        Raises:
            CannotScore: a cell could mean more than one value.
        """
        kinds = self._kinds[name] - {"null"}
        if kinds <= {"text"}:
            return str
        if "text" in kinds:
            raise CannotScore(
                f"the column '{name}' may hold texts and other values, which CSV does not tell "
                "apart: use JSON lines or Parquet"
            )
        if kinds == {"number"}:
            return _number
        return lambda text: _typed(text, kinds)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return schema

    def _kinds_of(self, schema: Any) -> frozenset[str]:
        """Return what kinds of values a schema takes."""
        if not isinstance(schema, Mapping):
            return _ANY
        schema = self._resolved(schema)
        if "const" in schema:
            return frozenset({_kind(schema["const"])})
        if "enum" in schema:
            return frozenset(map(_kind, schema["enum"]))
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return frozenset().union(*map(self._kinds_of, schema[several]))
        named = schema.get("type")
        if named is None:
            return _ANY
        return frozenset(_KINDS[each] for each in ([named] if isinstance(named, str) else named))


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
    return "nested"


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    # Python also reads 1_0, nan, inf and the digits of other scripts.
    if not math.isfinite(value) or "_" in text or not text.isascii():
        return text
    return value if "." in text or not _INTEGER.fullmatch(text.strip()) else int(text)


def _typed(text: str, kinds: frozenset[str]) -> Any:
    stripped = text.strip()
    if "boolean" in kinds and stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if "number" in kinds and not isinstance(value := _number(text), str):
        return value
    if "nested" in kinds and stripped[:1] in ("[", "{"):
        try:
            return json.loads(stripped, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return text
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
