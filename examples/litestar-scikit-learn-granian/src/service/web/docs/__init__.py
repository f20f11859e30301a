"""The docs page and its assets. They come from the package and not a CDN, so it works offline."""

from importlib import resources
from typing import Final

from service.web.asgi import Headers

PATH: Final = "/docs"
ALIASES: Final = ("/", "/docs/")
"""Paths that lead to the page, unless the owner has a route there."""

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _file(name: str, content_type: bytes) -> tuple[Headers, bytes]:
    headers = [
        (b"content-type", content_type),
        (b"content-security-policy", _POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-cache"),
    ]
    return headers, resources.files("service.web.docs").joinpath(name).read_bytes()


FILES: Final = {
    PATH: _file("docs.html", b"text/html; charset=utf-8"),
    "/docs/docs.css": _file("docs.css", b"text/css; charset=utf-8"),
    "/docs/docs.js": _file("docs.js", b"text/javascript; charset=utf-8"),
}
"""Headers and body of each file, by path."""
