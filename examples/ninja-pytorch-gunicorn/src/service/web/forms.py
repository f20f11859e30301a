"""Files in a request to /predict: in a form, as its whole body, or as long texts in JSON.

The framework always gets JSON, with a short token for each file (see `service.core.uploads`).
"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from service.core.errors import TooLarge
from service.core.images import pillow
from service.core.uploads import SetAside, decode_base64, kinds_of_files
from service.ops.settings import PREFIX, Settings
from service.web.errors import InvalidValues, Malformed, UnsupportedMediaType
from service.web.instance_fields import InstanceFields
from service.web.multipart import FORM, Part, boundary_of, parser_class, parts
from service.web.strict_json import SEPARATORS, ValueLimit, parse_json

_JSON: Final = "application/json"
_LONG_TEXT: Final = 2**18
"""More characters of base64 are not left to the framework's parser."""
_SHORT_FORM: Final = 2**16
"""As many bytes of a form do not keep the event loop for long, even if all parts are empty."""


class _Files:
    """Files of one request, by tokens that nobody can guess. Texts are base64, to be decoded."""

    def __init__(self) -> None:
        self._secret: Final = secrets.token_urlsafe(16)
        self._contents: Final[list[bytes | str]] = []

    def __bool__(self) -> bool:
        return bool(self._contents)

    def add(self, content: bytes | str) -> str:
        self._contents.append(content)
        return f"{self._secret}:{len(self._contents) - 1}"

    def decoded(self) -> SetAside:
        return {
            f"{self._secret}:{index}": each if isinstance(each, bytes) else _decode(each)
            for index, each in enumerate(self._contents)
        }


class Forms:
    """Reads requests to /predict whose instances hold files."""

    def __init__(self, instance: type[BaseModel], settings: Settings, values: ValueLimit) -> None:
        self._fields: Final = InstanceFields(instance.model_json_schema())
        self._has_images: Final = "image" in kinds_of_files(instance)
        self._values: Final = values
        self._max_parts: Final = settings.max_predict_values
        self._max_bytes: Final = settings.max_json_bytes

    def check_libraries(self) -> None:
        """Check that the libraries for files are installed.

        Raises:
            CannotStart: one is not; the text says how to install it.
        """
        if self._has_images:
            pillow()
        if self._fields.files:
            parser_class()

    def check_content_type(self, content_type: bytes) -> None:
        """Check that a body of this type, which is not JSON, can be an instance.

        Raises:
            UnsupportedMediaType: it cannot.
        """
        kind = _kind(content_type)
        accepted = self._fields.media_types
        if not any(_matches(kind, each) for each in accepted):
            *first, last = [_JSON, *accepted]
            wanted = f"{', '.join(first)} or {last}" if first else last
            raise UnsupportedMediaType(f"The body must be {wanted}.")

    async def read(
        self,
        body: bytes,
        content_type: bytes,
        max_instances: int,
        turn: AbstractAsyncContextManager[None],
    ) -> tuple[bytes, SetAside]:
        """Turn a form or a file into JSON with instances, and the files that it names by tokens.

        ``turn``: that of the request, in which a long form is read off the event loop.

        Raises:
            Malformed: the form is not well-formed.
            TooLarge: it has too many parts, or too long texts.
            InvalidValues: a field is given another number of times than files are.
        """
        files = _Files()
        if _kind(content_type) != FORM and self._fields.body:
            instance = {self._fields.body[0]: files.add(body)}
            return b'{"instances":[%b]}' % orjson.dumps(instance), files.decoded()
        boundary = boundary_of(content_type)
        # A field may be given for each instance.
        limit = min(max_instances * (self._fields.count + 1), self._max_parts)

        def convert() -> bytes:
            return self._instances(list(parts(body, boundary, limit)), files)

        if len(body) <= _SHORT_FORM:
            return convert(), files.decoded()
        async with turn:
            return await asyncio.to_thread(convert), files.decoded()

    async def set_aside(self, document: Any) -> tuple[bytes, SetAside]:
        """Replace long files in a parsed body by tokens.

        Files in fields of fields stay where they are.

        Returns:
            The body with the tokens, and the files; none of both if nothing is long.
        """
        files = _Files()

        def replace(value: Any) -> Any:
            return files.add(value) if isinstance(value, str) and len(value) > _LONG_TEXT else value

        for instance in _given_instances(document):
            for name, field in self._fields.files.items():
                value = instance.get(name)
                if field.many and isinstance(value, list):
                    instance[name] = [replace(each) for each in value]
                elif name in instance:
                    instance[name] = replace(value)
        if not files:
            return b"", {}
        try:
            body = orjson.dumps(document)
        except TypeError:  # such as an integer of more than 64 bits
            return b"", {}
        return body, await asyncio.to_thread(files.decoded)

    def _instances(self, given_parts: Sequence[Part], files: _Files) -> bytes:
        """Return JSON with the instances of a form.

        There are as many as files in one field. Any other field is given once, for all of them, or
        as often, for each in their order.
        """
        given: dict[str, list[bytes]] = {}
        for name, content in given_parts:
            given.setdefault(name, []).append(content)
        fields = self._fields.files
        self._check_size(sum(len(content) for name, content in given_parts if name not in fields))
        counts = [len(given.get(name, ())) for name, field in fields.items() if not field.many]
        count = max([1, *counts])
        columns = {name: self._column(name, contents, files) for name, contents in given.items()}
        wrong = [
            (
                f"instances.0.{name}",
                "Input should be given once"
                + (f", or {count} times, as often as a file" if count > 1 else ""),
            )
            for name, column in columns.items()
            if len(column) not in (1, count)
        ]
        if wrong:
            raise InvalidValues(wrong)
        encoded = {name: orjson.dumps(name) for name in columns}
        size = count * sum(map(len, encoded.values())) + sum(
            sum(map(len, column)) * (count // len(column)) for column in columns.values()
        )
        self._check_size(size)
        instances = (
            b",".join(
                b"%b:%b" % (encoded[name], column[index if len(column) == count else 0])
                for name, column in columns.items()
            )
            for index in range(count)
        )
        return b'{"instances":[{' + b"},{".join(instances) + b"}]}"

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(
                f"What the form has besides files is larger than {self._max_bytes} bytes as JSON "
                f"({PREFIX}MAX_JSON_BYTES)."
            )

    def _column(self, name: str, contents: list[bytes], files: _Files) -> list[bytes]:
        """Return the values of one field as JSON, one for all instances or one for each."""
        field = self._fields.files.get(name)
        if field is None:
            return [self._value(name, content) for content in contents]
        tokens = [orjson.dumps(files.add(content)) for content in contents]
        return [b"[%b]" % b",".join(tokens)] if field.many else tokens

    def _value(self, name: str, content: bytes) -> bytes:
        """Return the value of a field as JSON.

        It is a text where the field may be one. Elsewhere it is JSON already, such as a number.
        """
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise Malformed(f"The part '{name}' of the form is not UTF-8.") from None
        if name not in self._fields.texts:
            if sum(map(content.count, SEPARATORS)) > self._values.limit:
                raise self._values.exceeded()
            try:
                parse_json(content)
            except Malformed:  # the schema says what it should be
                return orjson.dumps(text)
            return content
        return orjson.dumps(text)


def _given_instances(document: Any) -> Iterator[dict[str, Any]]:
    instances = document.get("instances") if isinstance(document, dict) else None
    if isinstance(instances, list):
        yield from (instance for instance in instances if isinstance(instance, dict))


def _decode(text: str) -> bytes | PydanticCustomError:
    try:
        return decode_base64(text)
    except PydanticCustomError as error:
        return error


def _kind(content_type: bytes) -> str:
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def _matches(kind: str, accepted: str) -> bool:
    """Return whether a media type is an accepted one, such as ``image/*`` or ``audio/wav``."""
    if accepted.endswith("/*"):
        return kind.startswith(accepted[:-1]) and len(kind) >= len(accepted)
    return kind == accepted
