"""Compression of bodies: gzip and deflate (zlib), the two that all clients of the protocol know."""

import asyncio
import zlib
from typing import Final

from service.core.errors import TooLarge
from service.web.errors import Malformed, UnsupportedMediaType

_WINDOW_BITS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_BLOCKING_BYTES: Final = 64 * 2**10
"""Larger bodies are compressed and decompressed off the event loop."""


def content_encoding(headers: dict[bytes, bytes]) -> bytes:
    """Return the content encoding of a request, empty for none.

    Raises:
        UnsupportedMediaType: it is neither gzip nor deflate.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in (b"", b"identity"):
        return b""
    if encoding not in _WINDOW_BITS:
        raise UnsupportedMediaType("A body may be compressed with gzip or deflate only.")
    return encoding


async def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Decompress a body.

    Raises:
        TooLarge: it is larger than ``limit`` bytes when decompressed.
        Malformed: it is not what its encoding says.
    """
    if len(body) > _BLOCKING_BYTES:
        return await asyncio.to_thread(_decompress, body, encoding, limit)
    return _decompress(body, encoding, limit)


async def compress(body: bytes, accept_encoding: bytes) -> tuple[bytes, bytes]:
    """Compress a response, if the client accepts that.

    Returns:
        The body and its content encoding, which is empty if the body stays as it is.
    """
    encoding = _preferred_encoding(accept_encoding)
    if not encoding:
        return body, b""
    if len(body) > _BLOCKING_BYTES:
        return await asyncio.to_thread(_compress, body, encoding), encoding
    return _compress(body, encoding), encoding


def _decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    plain = []
    room = limit
    while True:
        stream = zlib.decompressobj(_WINDOW_BITS[encoding])
        try:
            plain.append(stream.decompress(body, room + 1))
        except zlib.error:
            raise Malformed(f"The body is not valid {encoding.decode()}.") from None
        room -= len(plain[-1])
        if room < 0:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        body = stream.unused_data
        if not stream.eof or (body and encoding != b"gzip"):
            raise Malformed(f"The body is not complete {encoding.decode()}.")
        if not body:  # gzip may have several members (RFC 1952)
            return b"".join(plain)


def _compress(body: bytes, encoding: bytes) -> bytes:
    stream = zlib.compressobj(level=1, wbits=_WINDOW_BITS[encoding])
    return stream.compress(body) + stream.flush()


def _preferred_encoding(accept_encoding: bytes) -> bytes:
    """Return gzip or deflate, whichever an Accept-Encoding header allows; empty for neither."""
    accepted = {}
    for entry in accept_encoding.lower().split(b","):
        coding, _, weight = entry.partition(b";")
        accepted[coding.strip()] = weight.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return next((coding for coding in _WINDOW_BITS if accepted.get(coding)), b"")
