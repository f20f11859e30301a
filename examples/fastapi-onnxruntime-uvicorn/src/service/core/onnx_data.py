"""The files beside an ONNX model in which it keeps its weights: its external data."""

import mmap
import re
from pathlib import Path
from typing import Final

_KEY: Final = b"\x0a\x08location\x12"
"""The key of an entry in a tensor's ``external_data``, and the tag of its value, in protobuf."""
_ENTRY: Final = re.compile(rb"\x6a([\x00-\x7f]|[\x80-\xff][\x00-\x7f])\Z", re.DOTALL)
"""The tag of such an entry and its length. Other maps, such as the metadata, have another tag."""


def external_locations(model: Path) -> list[str]:
    """Return the paths that a model gives for its external data, as it spells them.

    They are relative to the model's folder. A file of any other format has none.

    Raises:
        OSError: the file cannot be read.
    """
    if not model.is_file() or not model.stat().st_size:
        return []
    found: dict[str, None] = {}
    with (
        model.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        at = content.find(_KEY)
        while at >= 0:
            start = at + len(_KEY)
            size, width = _varint(content[start : start + 2])
            location = content[start + width : start + width + size]
            entry = _ENTRY.search(content[max(at - 3, 0) : at])
            if entry and _varint(entry[1])[0] == len(_KEY) + width + size:
                found[location.decode("utf-8", "surrogateescape")] = None
            at = content.find(_KEY, start)
    return list(found)


def _varint(encoded: bytes) -> tuple[int, int]:
    """Decode a number of one or two bytes, and return it with how many it took."""
    if encoded[:1] < b"\x80" or len(encoded) < 2:
        return encoded[0] if encoded else 0, 1
    return encoded[0] - 0x80 + (encoded[1] << 7), 2
