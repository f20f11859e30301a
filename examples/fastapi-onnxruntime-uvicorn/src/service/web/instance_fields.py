"""The fields of an instance that hold files, as its JSON schema has them."""

from typing import Any, Final, NamedTuple

from service.web.multipart import FORM

_EACH: Final = "a file for each instance; other fields once, or once for each"
_OF_ONE: Final = "one or several files"
_BASE64: Final = "base64"


class FileField(NamedTuple):
    """A field of an instance that holds a file, or a list of files if ``many``.

    ``media_type``: what the file may be, such as ``image/*``.
    """

    media_type: str
    many: bool


class InstanceFields:
    """The fields of an instance by their names in JSON, as its schema has them.

    ``files``: those that hold files. ``texts``: those that may hold a text.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        definitions = schema.get("$defs", {})
        properties = _resolve(schema, definitions).get("properties", {})
        self.files: Final = {
            name: field
            for name, each in properties.items()
            if (field := _file_field(each, definitions))
        }
        self.texts: Final = frozenset(
            name
            for name, each in properties.items()
            if any(_is_text(choice) for choice in _choices(each, definitions))
        )
        self.count: Final = len(properties)
        self._properties: Final = properties
        self._required: Final = _resolve(schema, definitions).get("required", [])

    def form(self) -> dict[str, Any]:
        """Return the schema of a form with one or several instances."""
        properties: dict[str, Any] = {}
        for name, each in self._properties.items():
            about = {key: each[key] for key in ("title", "description") if key in each}
            if field := self.files.get(name):
                file = {
                    "type": "string",
                    "format": "binary",
                    "contentMediaType": field.media_type,
                }
                text = about.get("description", "")
                about["description"] = f"{text} ({_OF_ONE if field.many else _EACH})".strip()
                properties[name] = {**about, "type": "array", "items": file}
            else:
                properties[name] = each
        schema = {"type": "object", "properties": properties}
        return {**schema, "required": self._required} if self._required else schema

    @property
    def media_types(self) -> list[str]:
        """What the body of a request may be, besides JSON."""
        if not self.files:
            return []
        return [FORM, *([self.body[1].media_type] if self.body else [])]

    @property
    def body(self) -> tuple[str, FileField] | None:
        """The field that the whole body of a request can be, with its name."""
        if len(self.files) != 1:
            return None
        ((name, field),) = self.files.items()
        return None if field.many else (name, field)


def _resolve(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _choices(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas that a value may follow, without null."""
    schema = _resolve(schema, definitions)
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives is None:
        return [] if schema.get("type") == "null" else [schema]
    return [choice for each in alternatives for choice in _choices(each, definitions)]


def _file_field(schema: dict[str, Any], definitions: dict[str, Any]) -> FileField | None:
    choices = _choices(schema, definitions)
    if len(choices) != 1:
        return None
    (choice,) = choices
    if many := choice.get("type") == "array":
        choice = _resolve(choice.get("items", {}), definitions)
    if choice.get("contentEncoding") != _BASE64:
        return None
    return FileField(choice.get("contentMediaType", ""), many)


def _is_text(schema: dict[str, Any]) -> bool:
    if "enum" in schema or "const" in schema:
        return any(isinstance(value, str) for value in schema.get("enum", [schema.get("const")]))
    return schema.get("type") == "string"
