"""The id of a request."""

import random
import re
from typing import Final

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id(headers: dict[bytes, bytes]) -> str:
    """Return the id that the client sent, or a new one if that is missing or not usable."""
    given = headers.get(b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{random.getrandbits(128):032x}"
