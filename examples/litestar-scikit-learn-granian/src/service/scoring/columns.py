"""The columns of predictions, by their schema; for CSV and Parquet."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from service.scoring.errors import CannotScore

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SCALARS: Final = ("string", "number", "integer", "boolean")


class OutputColumn(NamedTuple):
    """A column of the result.

    ``kind``: string, number, integer or boolean; json for whatever else, as a text with its JSON.
    ``many``: a list of them. ``of_prediction``: whether the prediction has it, or the row.
    """

    name: str
    kind: str
    many: bool = False
    of_prediction: bool = True

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return the value of a row of the result, as JSON lines have it."""
        value = (row["prediction"] if self.of_prediction else row).get(self.name)
        if self.kind == "json" and value is not None:
            return text_of(value)
        if self.kind == "string" and value is not None and not self.many:
            return str(value)  # an id of JSON lines may be an integer
        return value


def text_of(value: Any) -> str:
    """Return the JSON of a value."""
    return _ENCODER.encode(value)


def output_columns(
    prediction: type[BaseModel], id: str | None, *, integer_ids: bool
) -> list[OutputColumn]:
    """Return the columns of the result: the number of the row, its id, and the prediction's fields.

    Raises:
        CannotScore: predictions have no fields that could be columns, or two would have one name.
    """
    whole = prediction.model_json_schema(by_alias=True, mode="serialization")
    definitions = whole.get("$defs", {})
    schema = _resolved(whole, definitions)
    properties = schema.get("properties", {})
    if not properties or schema.get("additionalProperties"):
        raise CannotScore("Prediction has no fixed fields that could be columns: write JSON lines")
    columns = [OutputColumn("row", "integer", of_prediction=False)]
    if id is not None:
        kind = "integer" if integer_ids else "string"
        columns.append(OutputColumn(id, kind, of_prediction=False))
    columns += [_column(name, field, definitions) for name, field in properties.items()]
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise CannotScore(f"two columns of OUT would be '{name}': write JSON lines")
    return columns


def _column(name: str, schema: Any, definitions: Mapping[str, Any]) -> OutputColumn:
    kind = _scalar(schema, definitions)
    if kind is not None:
        return OutputColumn(name, kind)
    schema = _resolved(schema, definitions)
    if schema.get("type") == "array" and "items" in schema:
        item = _scalar(schema["items"], definitions)
        if item is not None:
            return OutputColumn(name, item, many=True)
    return OutputColumn(name, "json")


def _scalar(schema: Any, definitions: Mapping[str, Any]) -> str | None:
    """Return the type of a scalar that may be null; None if it is something else, or several."""
    if not isinstance(schema, Mapping):
        return None
    schema = _resolved(schema, definitions)
    if "anyOf" in schema:
        options = [_resolved(each, definitions) for each in schema["anyOf"]]
        options = [each for each in options if each.get("type") != "null"]
        return _scalar(options[0], definitions) if len(options) == 1 else None
    kind = schema.get("type")
    return kind if kind in _SCALARS else None


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema
