"""The bytes of HTTP bodies: read within limits, decompressed, parsed as strict JSON."""

import asyncio
import re
import zlib
from typing import Any, Final

import jiter

from service.errors import ClientLeft, Malformed, TooLarge, UnsupportedMediaType
from service.http import Receive

_WINDOW_BITS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SHORT: Final = 4 * 2**10
_BLOCKING_BYTES: Final = 64 * 2**10
"""More than this is compressed and decompressed off the event loop."""


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """Read and decompress the body of a request.

    ``limit``: bytes, as sent and decompressed.

    Raises:
        TooLarge: declared, sent or decompressed, it is more than the limit.
        UnsupportedMediaType: its content encoding is neither gzip nor deflate.
        Malformed: its bytes are not what its content encoding says.
        ClientLeft: the client closed the connection before its end.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding == b"identity":
        encoding = b""
    if encoding and encoding not in _WINDOW_BITS:
        raise UnsupportedMediaType("A body may be compressed with gzip or deflate only.")
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = await _receive_all(receive, limit)
    if not encoding:
        return body
    if len(body) > _BLOCKING_BYTES:
        return await asyncio.to_thread(_decompress, body, encoding, limit)
    return _decompress(body, encoding, limit)


async def compress(body: bytes, accept_encoding: bytes) -> tuple[bytes, bytes]:
    """Compress an answer the way its client asked for, if it did.

    Returns:
        The body and its content encoding, empty where it stays as it is.
    """
    encoding = _preferred_encoding(accept_encoding)
    if not encoding:
        return body, b""
    if len(body) > _BLOCKING_BYTES:
        return await asyncio.to_thread(_compress, body, encoding), encoding
    return _compress(body, encoding), encoding


def parse_json(body: bytes, max_depth: int) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN or Infinity, no key twice in one object.

    Raises:
        Malformed: it is no such JSON, or nested deeper than ``max_depth``.
    """
    check_depth(body, max_depth)
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from None


def check_json(body: bytes, max_depth: int) -> None:
    """Refuse what has no single meaning as JSON, before another parser reads it leniently.

    The words NaN and Infinity pass: whoever reads the values says where they are wrong.

    Raises:
        Malformed: it is not JSON, repeats a key, or is nested deeper than ``max_depth``.
    """
    check_depth(body, max_depth)
    try:
        jiter.from_json(body, allow_inf_nan=True, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from None


def check_depth(body: bytes, limit: int) -> None:
    """Refuse JSON that is nested deeper than a limit, before a parser follows it down.

    Raises:
        Malformed: it is.
    """
    if _occurrences(body, b"[", limit) + _occurrences(body, b"{", limit) <= limit:
        return
    depth = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > limit:
            raise Malformed(f"The body is nested deeper than {limit} levels.")


def _occurrences(body: bytes, wanted: bytes, limit: int) -> int:
    """Count a byte, up to one more than a limit."""
    if len(body) <= _SHORT:
        return body.count(wanted)
    position = -1  # finding a byte that is rare is several times faster than counting it
    for count in range(limit + 1):
        position = body.find(wanted, position + 1)
        if position < 0:
            return count
    return limit + 1


async def _receive_all(receive: Receive, limit: int) -> bytes:
    chunks = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error:
        raise Malformed(f"The body is not valid {encoding.decode()}.") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise Malformed(f"The body is not one complete {encoding.decode()} stream.")
    return plain


def _compress(body: bytes, encoding: bytes) -> bytes:
    stream = zlib.compressobj(level=1, wbits=_WINDOW_BITS[encoding])
    return stream.compress(body) + stream.flush()


def _preferred_encoding(accept_encoding: bytes) -> bytes:
    """Choose gzip or deflate from an Accept-Encoding header, empty for neither."""
    accepted = {}
    for entry in accept_encoding.lower().split(b","):
        coding, _, weight = entry.partition(b";")
        accepted[coding.strip()] = weight.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return next((coding for coding in _WINDOW_BITS if accepted.get(coding)), b"")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.")
