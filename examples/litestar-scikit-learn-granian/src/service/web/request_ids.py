"""The ids of a request: its own, and that of the trace to which it belongs."""

import random
import re
from typing import Final

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def request_id(headers: dict[bytes, bytes]) -> str:
    """Return the id that the client sent, or a new one if that is missing or not usable."""
    given = headers.get(b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"


def trace_id(headers: dict[bytes, bytes]) -> str:
    """Return the trace id of a W3C ``traceparent`` header, empty if there is none."""
    given = headers.get(b"traceparent")
    found = _TRACEPARENT.fullmatch(given) if given else None
    return found[1].decode("ascii") if found else ""
