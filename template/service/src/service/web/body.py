"""The body of a request, read within its limit, and all bodies together within theirs."""

from io import BytesIO
from typing import Final

from service.core.errors import RequestCancelled, TooLarge
from service.web.asgi import Message
from service.web.compression import content_encoding, decompress
from service.web.errors import BodiesFull
from service.web.request_cycle import RequestCycle


class Bodies:
    """Reads bodies, and counts the bytes of those in memory until their requests have ended.

    ``limit``: bytes of one body, as sent and when decompressed. ``total``: bytes of all of them.
    """

    def __init__(self, limit: int, total: int) -> None:
        self._limit: Final = limit
        self._total: Final = total
        self._held = 0

    async def read(self, cycle: RequestCycle, headers: dict[bytes, bytes]) -> bytes:
        """Read and decompress the body of a request; `release` when the request has ended.

        Raises:
            TooLarge: it exceeds the limit: as declared, as sent, or when decompressed.
            BodiesFull: it does not fit beside the bodies of other requests.
            UnsupportedMediaType: its content encoding is neither gzip nor deflate.
            Malformed: it is not what its content encoding says.
            RequestCancelled: the client closed the connection before its end.
        """
        encoding = content_encoding(headers)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit():
            if int(declared) > self._limit:
                raise self._too_large()
            if self._held + int(declared) > self._total:
                raise BodiesFull
        try:
            body = await self._receive(cycle)
            return await self._decompress(cycle, body, encoding) if encoding else body
        except BaseException:
            self.release(cycle)  # others need not wait until the error is answered
            raise

    def release(self, cycle: RequestCycle) -> None:
        """Count the body of a request no longer."""
        self._held -= cycle.body_bytes
        cycle.body_bytes = 0

    async def _decompress(self, cycle: RequestCycle, body: bytes, encoding: bytes) -> bytes:
        with BytesIO() as plain:
            async for piece in decompress(body, encoding):
                if plain.tell() + len(piece) > self._limit:
                    raise self._too_large()
                self._hold(cycle, len(piece))
                plain.write(piece)
            return plain.getvalue()

    async def _receive(self, cycle: RequestCycle) -> bytes:
        message = await cycle.receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return self._next(cycle, message)
        # It grows in place and gives its bytes away; joining chunks would copy all of them. Closed
        # by an error, it frees them before the error is answered.
        with BytesIO() as body:
            body.write(self._next(cycle, message))
            while message.get("more_body", False):
                message = await cycle.receive()
                body.write(self._next(cycle, message))
            return body.getvalue()

    def _next(self, cycle: RequestCycle, message: Message) -> bytes:
        """Return the next part of a body, counted."""
        if message["type"] == "http.disconnect":
            raise RequestCancelled
        part: bytes = message.get("body", b"")
        if cycle.body_bytes + len(part) > self._limit:
            raise self._too_large()
        self._hold(cycle, len(part))
        return part

    def _hold(self, cycle: RequestCycle, size: int) -> None:
        if self._held + size > self._total:
            raise BodiesFull
        self._held += size
        cycle.body_bytes += size

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._limit} bytes.")
