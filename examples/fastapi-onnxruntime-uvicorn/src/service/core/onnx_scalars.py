"""The inputs and outputs of an ONNX model that are scalars.

ONNX Runtime returns an empty shape for a scalar, and also for a tensor of which the model gives no
shape. The file tells them apart, so it is read here, as far as that.
"""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_VALUES: Final = ((7, 11), (7, 12))
"""The inputs and the outputs of the graph, as numbers of fields."""
_NAME: Final = (1,)
_SHAPE: Final = (2, 1, 2)
"""The shape of the tensor type of a value."""

_Message = tuple[int, int]
"""Where a message of protobuf begins and ends."""


def scalars(model: Path) -> frozenset[str]:
    """Return the names of the inputs and outputs to which a model gives a shape of no dimensions.

    A file of any other format has none.

    Raises:
        OSError: the file cannot be read.
    """
    with (
        contextlib.suppress(ValueError),
        model.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return frozenset(
            content[start:end].decode()
            for path in _VALUES
            for value in _inside(content, (0, len(content)), path)
            if any(first == last for first, last in _inside(content, value, _SHAPE))
            for start, end in _inside(content, value, _NAME)
        )
    return frozenset()


def _inside(content: mmap.mmap, message: _Message, path: tuple[int, ...]) -> Iterator[_Message]:
    """Yield the messages or texts at the end of a path of fields."""
    if not path:
        yield message
        return
    for field, inner in _fields(content, message):
        if field == path[0]:
            yield from _inside(content, inner, path[1:])


def _fields(content: mmap.mmap, message: _Message) -> Iterator[tuple[int, _Message]]:
    """Yield the number and the place of each field of a message that has a length."""
    at, end = message
    while at < end:
        tag, at = _varint(content, at)
        match tag & 7:
            case 0:
                _, at = _varint(content, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(content, at)
                if at + size > end:
                    raise ValueError("a field is longer than its message")
                yield tag >> 3, (at, at + size)
                at += size
            case 5:
                at += 4
            case _:
                raise ValueError("this is not protobuf")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Decode a number, and return it with the place behind it."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("this is not protobuf")
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
