"""Cross-origin resource sharing (CORS): which pages of other origins may read responses.

Source: the Fetch standard of the WHATWG, "HTTP CORS protocol". Methods and request headers are not
restricted: what a page may do follows from its origin. WebSockets are not subject to CORS.
"""

import re
from collections.abc import Sequence
from typing import Final

from service.web.asgi import Message, Send
from service.web.errors import HTTPError

_ANY: Final = "*"
_METHODS: Final = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_EXPOSE: Final = (
    b"access-control-expose-headers",
    b"Inference-Header-Content-Length, Retry-After, X-Request-ID",
)
_VARY: Final = (b"vary", b"Origin")
_MAX_AGE: Final = b"600"
"""Seconds that a browser may remember the response to a preflight."""
_FIELD_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*")
_OURS: Final = b"access-control-"


class Cors:
    """The headers with which a service allows origins.

    ``origins``: such as https://example.com, or only ``*`` for all. ``credentials``: whether pages
    may send cookies along.
    """

    def __init__(self, origins: Sequence[str], *, credentials: bool) -> None:
        self._any: Final = _ANY in origins
        self._origins: Final = frozenset(origin.encode("ascii") for origin in origins)
        self._credentials: Final = credentials

    def headers(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return what the response to a request with these headers has."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), _EXPOSE]
        if not self._allows(headers):
            return [_VARY]
        allowed = [_VARY, (b"access-control-allow-origin", headers[b"origin"]), _EXPOSE]
        if self._credentials:
            allowed.append((b"access-control-allow-credentials", b"true"))
        return allowed

    def preflight(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return what the response to a preflight has, besides `headers`.

        Raises:
            HTTPError: 403, the origin is not allowed.
        """
        if not self._allows(headers):
            raise HTTPError(403, "Pages of this origin may not use the service.")
        allowed = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", _MAX_AGE),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
        names = headers.get(b"access-control-request-headers", b"")
        if names and _FIELD_NAMES.fullmatch(names):
            allowed.append((b"access-control-allow-headers", names))
        return allowed

    def _allows(self, headers: dict[bytes, bytes]) -> bool:
        return self._any or headers.get(b"origin") in self._origins


def is_preflight(method: str, headers: dict[bytes, bytes]) -> bool:
    """Return whether a browser asks if it may send a request of a page."""
    return (
        method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers
    )


def without_cors_headers(send: Send) -> Send:
    """Leave out the framework's own headers of CORS: a browser refuses a response with both."""

    async def send_others(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            others = [each for each in headers if not each[0].lower().startswith(_OURS)]
            message = {**message, "headers": others}
        await send(message)

    return send_others
