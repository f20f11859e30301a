"""The body of a request, read within its limit."""

from service.core.errors import RequestCancelled, TooLarge
from service.web.asgi import Receive
from service.web.compression import content_encoding, decompress


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """Read and decompress the body of a request.

    ``limit``: bytes, as sent and when decompressed.

    Raises:
        TooLarge: it exceeds the limit: as declared, as sent, or when decompressed.
        UnsupportedMediaType: its content encoding is neither gzip nor deflate.
        Malformed: it is not what its content encoding says.
        RequestCancelled: the client closed the connection before its end.
    """
    encoding = content_encoding(headers)
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = await _receive_all(receive, limit)
    return await decompress(body, encoding, limit) if encoding else body


async def _receive_all(receive: Receive, limit: int) -> bytes:
    chunks = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestCancelled
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.")
