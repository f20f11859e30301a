"""Forms with files, multipart/form-data, read with the library `multipart`."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from service.core.errors import TooLarge
from service.ops.process import CannotStart
from service.web.errors import Malformed

FORM: Final = "multipart/form-data"

_PIECE: Final = 2**18
_MAX_HEADER_BYTES: Final = 4096
_MAX_PART_HEADERS: Final = 8


class Part(NamedTuple):
    """A part of a form: the name of the field, and the content."""

    name: str
    content: bytes


def parser_class() -> Any:
    """Return the class of the parser of forms.

    Raises:
        CannotStart: its library is not installed.
    """
    try:
        from multipart import PushMultipartParser
    except ImportError:
        raise CannotStart(
            "predict.py takes files, and the parser of forms is not installed: uv add multipart"
        ) from None
    return PushMultipartParser


def parts(body: bytes, boundary: str, limit: int) -> Iterator[Part]:
    """Yield the parts of a form. ``limit``: the largest number of them.

    Raises:
        Malformed: the body is not such a form.
        TooLarge: it has more parts, or they have longer or more headers than allowed.
    """
    from multipart import MultipartError, ParserLimitReached

    name = ""
    content: list[bytes] = []
    try:
        with parser_class()(
            boundary,
            max_header_size=_MAX_HEADER_BYTES,
            max_header_count=_MAX_PART_HEADERS,
            max_segment_count=limit,
            strict=True,
        ) as parser:
            end = len(body) - 2 * body.endswith(b"\r\n")  # the parser wants no piece after the end
            for start in range(0, end, _PIECE):
                for event in parser.parse(body[start : min(start + _PIECE, end)]):
                    if event is None:
                        yield Part(name, b"".join(content))
                    elif isinstance(event, bytes):
                        content.append(event)
                    else:
                        name, content = event.name, []
                        encoding = event.header("Content-Transfer-Encoding", "binary")
                        if encoding.lower() not in ("binary", "8bit", "7bit"):
                            raise Malformed(f"The part '{name}' of the form is encoded.")
    except ParserLimitReached as error:
        raise TooLarge(f"The form is too large: {error}.") from None
    except MultipartError as error:
        raise Malformed(f"The body is not a valid form: {error}.") from None


def boundary_of(content_type: bytes) -> str:
    from multipart import parse_options_header

    _, options = parse_options_header(content_type.decode("latin-1"))
    boundary: str = options.get("boundary", "")
    if not re.fullmatch(r"[\x20-\x7e]{1,70}", boundary):
        raise Malformed("The Content-Type of a form must have a boundary of up to 70 characters.")
    return boundary
