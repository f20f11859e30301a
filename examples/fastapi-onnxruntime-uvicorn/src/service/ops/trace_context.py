"""The header ``traceparent`` of W3C Trace Context, level 1, read by the letter."""

import re
from collections.abc import Iterable
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?P<known>(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})"
    rb"-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2})(?P<more>-.*)?",
    re.DOTALL,
)
"""``more``: what a version that does not exist yet may have, after another dash."""
_TRACE: Final = slice(3, 35)


def traceparent(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the parent that a request names, without what later versions may add.

    It is None if the header is missing, there are several, or it is not valid.
    """
    given = [value for name, value in headers if name == b"traceparent"]
    if len(given) != 1:
        return None
    value = given[0].strip(b" \t")
    found = _TRACEPARENT.fullmatch(value)
    if found is None or found["version"] == b"ff":
        return None
    if found["version"] == b"00" and found["more"]:
        return None
    if not (found["trace"].strip(b"0") and found["parent"].strip(b"0")):
        return None
    return found["known"]


def trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the id of the trace to which a request belongs, empty if it names none."""
    parent = traceparent(headers)
    return parent[_TRACE].decode("ascii") if parent else ""
