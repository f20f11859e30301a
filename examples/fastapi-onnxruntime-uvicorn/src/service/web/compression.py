"""Compression of bodies: gzip and deflate (zlib), the two that all clients of the protocol know."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from service.web.errors import Malformed, UnsupportedMediaType

_WINDOW_BITS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_BLOCKING_BYTES: Final = 64 * 2**10
"""More is compressed and decompressed off the event loop."""
_PIECE_BYTES: Final = 2**20
_INPUT_BYTES: Final = 64 * 2**10
_MAX_MEMBERS: Final = 4096
"""Members of a gzip body: each costs as much as 64 KiB, even if it is empty."""


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


async def decompress(body: bytes, encoding: bytes) -> AsyncIterator[bytes]:
    """Decompress a body, piece by piece, so that the caller can stop where it becomes too large.

    Raises:
        Malformed: it is not what its encoding says.
    """
    pieces = _decompress(body, encoding)
    size = len(body)
    piece = b""
    while True:
        size += len(piece)
        if size <= _BLOCKING_BYTES:
            piece = next(pieces, b"")
        else:
            piece = await asyncio.to_thread(next, pieces, b"")
        if not piece:
            return
        yield piece


async def compress(body: bytes, accept_encoding: bytes) -> tuple[bytes, bytes]:
    """Compress a response, if the client accepts that.

    Returns:
        The body and its content encoding, which is empty if the body stays as it is.
    """
    encoding = preferred_encoding(accept_encoding)
    if not encoding:
        return body, b""
    if len(body) > _BLOCKING_BYTES:
        return await asyncio.to_thread(_compress, body, encoding), encoding
    return _compress(body, encoding), encoding


def _decompress(body: bytes, encoding: bytes) -> Iterator[bytes]:
    """Yield a first piece that can be made on the event loop, then larger ones, none empty."""
    left = memoryview(body)
    size = _BLOCKING_BYTES
    for _ in range(_MAX_MEMBERS if encoding == b"gzip" else 1):
        stream = zlib.decompressobj(_WINDOW_BITS[encoding])
        while not stream.eof:
            given: bytes | memoryview = stream.unconsumed_tail
            if not given:
                given, left = left[:_INPUT_BYTES], left[_INPUT_BYTES:]
            try:
                piece = stream.decompress(given, size)
            except zlib.error:
                raise Malformed(f"The body is not valid {encoding.decode()}.") from None
            if piece:
                yield piece
                size = _PIECE_BYTES
            elif not given:
                raise Malformed(f"The body is not complete {encoding.decode()}.")
        unread = len(stream.unused_data) + len(left)
        if not unread:
            return
        left = memoryview(body)[len(body) - unread :]
    reason = f"more than {_MAX_MEMBERS} members" if encoding == b"gzip" else "more than one stream"
    raise Malformed(f"The body is {encoding.decode()} with {reason}.")


class Compressor:
    """Compresses a body piece by piece, off the event loop."""

    def __init__(self, encoding: bytes) -> None:
        self._stream: Final = zlib.compressobj(level=1, wbits=_WINDOW_BITS[encoding])

    async def add(self, piece: bytes) -> bytes:
        """Return what a further piece of the body adds to the compressed one."""
        return await asyncio.to_thread(self._stream.compress, piece)

    def end(self) -> bytes:
        """Return the end of the compressed body."""
        return self._stream.flush()


def _compress(body: bytes, encoding: bytes) -> bytes:
    stream = zlib.compressobj(level=1, wbits=_WINDOW_BITS[encoding])
    return stream.compress(body) + stream.flush()


def preferred_encoding(accept_encoding: bytes) -> bytes:
    """Return gzip or deflate, whichever an Accept-Encoding header allows; empty for neither."""
    accepted = {}
    for entry in accept_encoding.lower().split(b","):
        coding, _, weight = entry.partition(b";")
        # A weight of zero has up to three decimals: q=0.000 (RFC 9110, 12.4.2).
        accepted[coding.strip()] = weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return next((coding for coding in _WINDOW_BITS if accepted.get(coding)), b"")
