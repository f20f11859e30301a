"""Files as fields of an instance: `Upload` for any file, `ImageFile` for an image.

In JSON a file is a string with its base64. In a form, or as the body of a request, it is what it
is: `service.web.forms` then sets the files aside and puts a token into the JSON for each, so that
no framework parses them.
"""

import binascii
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from service.core import images

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

ANY_FILE: Final = "application/octet-stream"

_KIND: Final = "service_upload"
_SLICE: Final = 2**18
"""Characters that are decoded at a time. Python's decoder lets no other thread run meanwhile."""

SetAside = Mapping[str, bytes | PydanticCustomError]
"""By token, the content of a file, or why there is none."""

_set_aside: ContextVar[SetAside] = ContextVar("set_aside", default={})  # noqa: B039  # read only


class _Base64:
    """Makes pydantic read base64 as bytes, and write bytes as base64."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _content,
            metadata={_KIND: "file"},
            serialization=_serialization(_base64),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return _json_schema(ANY_FILE)


Upload = Annotated[bytes, _Base64()]
"""The type of a field that holds a file: its bytes.

Name the media types that it may have as the body of a request, unless all are welcome:
``recording: Upload = Field(json_schema_extra={"contentMediaType": "audio/*"})``.
"""


class ImageFile:
    """The type of a field that holds an image: JPEG, PNG or WebP, unless you name other formats.

    ``content``: its bytes, as the client sent them. They become pixels in `array` and `open`, which
    belong into `to_tensors`: it runs off the event loop. Where it is ``async``, it must call them
    by `asyncio.to_thread`.
    """

    __slots__ = ("_field", "content")

    def __init__(self, content: bytes, field: str = "") -> None:
        self.content: Final = content
        self._field: Final = field

    def __repr__(self) -> str:
        return f"ImageFile({len(self.content)} bytes)"

    def array(
        self,
        size: tuple[int, int] | None = None,
        *,
        mode: str = "RGB",
        formats: tuple[str, ...] = images.FORMATS,
        max_pixels: int = images.MAX_PIXELS,
    ) -> "npt.NDArray[np.uint8]":
        """Return its pixels: of shape (height, width, 3) for RGB and (height, width) for L, grey.

        ``size``: width and height to which it is resized. The other arguments are those of `open`.

        Raises:
            Refused: see `open`.
        """
        return images.array(
            self.content, self._field, size, mode=mode, formats=formats, max_pixels=max_pixels
        )

    def open(
        self,
        *,
        mode: str | None = "RGB",
        formats: tuple[str, ...] = images.FORMATS,
        max_pixels: int = images.MAX_PIXELS,
        at_least: tuple[int, int] | None = None,
    ) -> "Image":
        """Open it with Pillow, upright by its EXIF orientation, and load it.

        ``mode``: that of the image, None to leave it as it is. ``formats``: Pillow's names of those
        to accept. ``max_pixels``: the largest product of width and height, checked before anything
        is decoded. ``at_least``: width and height that suffice; a large JPEG is then decoded at a
        half, a quarter or an eighth of its size, which takes much less time.

        Raises:
            Refused: it is not an image of these formats, is damaged, or has too many pixels.
        """
        return images.load(
            self.content,
            self._field,
            mode=mode,
            formats=formats,
            max_pixels=max_pixels,
            at_least=at_least,
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _image,
            metadata={_KIND: "image"},
            serialization=_serialization(lambda image: _base64(image.content)),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return _json_schema("image/*")


@functools.cache
def kinds_of_files(instance: type[BaseModel]) -> frozenset[str]:
    """Return which kinds of files an instance may hold: ``file``, ``image``, both or none."""
    return frozenset(_kinds(TypeAdapter(instance).core_schema))


@contextmanager
def set_aside(files: SetAside) -> Iterator[None]:
    """Let fields of files take the content of these for their tokens, while a request is read."""
    token = _set_aside.set(files)
    try:
        yield
    finally:
        _set_aside.reset(token)


def decode_base64(text: str) -> bytes:
    """Decode base64: the standard alphabet, with its padding and nothing else.

    Raises:
        PydanticCustomError: it is something else.
    """
    padding = text.find("=")
    if 0 <= padding < len(text) - 2:
        raise _not_base64(text)
    try:
        return b"".join(
            binascii.a2b_base64(text[start : start + _SLICE], strict_mode=True)
            for start in range(0, len(text), _SLICE)
        )
    except ValueError:
        raise _not_base64(text) from None


def _not_base64(text: str) -> PydanticCustomError:
    if text.startswith("data:"):
        return PydanticCustomError("base64", "Input should be base64 without 'data:…,' before it")
    return PydanticCustomError("base64", "Input should be valid base64")


def _content(value: object) -> bytes:
    if isinstance(value, str):
        found = _set_aside.get().get(value)
        if isinstance(found, PydanticCustomError):
            raise found
        return decode_base64(value) if found is None else found
    if isinstance(value, bytes):
        return value
    raise PydanticCustomError("base64", "Input should be a string with the base64 of a file")


def _image(value: object, info: core_schema.ValidationInfo[Any]) -> ImageFile:
    if isinstance(value, ImageFile):
        return value
    return ImageFile(_content(value), info.field_name or "")


def _base64(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).decode("ascii")


def _serialization(function: Any) -> core_schema.SerSchema:
    return core_schema.plain_serializer_function_ser_schema(function, when_used="json")


def _json_schema(media_type: str) -> JsonSchemaValue:
    return {"type": "string", "contentEncoding": "base64", "contentMediaType": media_type}


def _kinds(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        metadata = schema.get("metadata")
        if isinstance(metadata, Mapping) and _KIND in metadata:
            yield metadata[_KIND]
        for part in schema.values():
            yield from _kinds(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _kinds(part)
