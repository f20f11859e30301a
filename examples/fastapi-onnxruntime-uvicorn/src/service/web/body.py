"""The body of a request, read within its limit, and all bodies together within theirs."""

from io import BytesIO
from typing import Final, NamedTuple

from service.core.errors import RequestCancelled, TooLarge
from service.ops.settings import PREFIX, Settings
from service.web.asgi import Message
from service.web.compression import content_encoding, decompress
from service.web.errors import BodiesFull
from service.web.request_cycle import RequestCycle


class BodyLimit(NamedTuple):
    """The largest size of a body in bytes, as sent and when decompressed.

    ``text``: what the answer to a larger one says.
    """

    size: int
    text: str

    def check(self, size: int) -> None:
        if size > self.size:
            raise TooLarge(self.text)


class Bodies:
    """Reads bodies, and counts the bytes of those in memory until their requests have ended.

    ``any`` and ``json``: the limits of a body, and of one that is JSON.
    """

    def __init__(self, settings: Settings) -> None:
        size = settings.max_body_bytes
        self.any: Final = BodyLimit(size, f"The body is larger than {size} bytes.")
        self._max_json: Final = settings.max_json_bytes
        self.json: Final = self.json_limit("Binary tensors, sent to /v2, may be larger.")
        self._total: Final = settings.max_total_body_bytes
        self._held = 0

    def json_limit(self, advice: str) -> BodyLimit:
        """Return the limit of a body that is JSON. ``advice``: how to send what is larger."""
        limit = self._max_json
        text = f"The JSON is larger than {limit} bytes ({PREFIX}MAX_JSON_BYTES). {advice}"
        return min(self.any, BodyLimit(limit, text))

    async def read(
        self, cycle: RequestCycle, headers: dict[bytes, bytes], limit: BodyLimit
    ) -> bytes:
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
            limit.check(int(declared))
            if self._held + int(declared) > self._total:
                raise BodiesFull
        try:
            body = await self._receive(cycle, limit)
            return await self._decompress(cycle, body, encoding, limit) if encoding else body
        except BaseException:
            self.release(cycle)  # others need not wait until the error is answered
            raise

    def release(self, cycle: RequestCycle) -> None:
        """Count the body of a request no longer."""
        self._held -= cycle.body_bytes
        cycle.body_bytes = 0

    async def _decompress(
        self, cycle: RequestCycle, body: bytes, encoding: bytes, limit: BodyLimit
    ) -> bytes:
        with BytesIO() as plain:
            async for piece in decompress(body, encoding):
                limit.check(plain.tell() + len(piece))
                self._hold(cycle, len(piece))
                plain.write(piece)
            return plain.getvalue()

    async def _receive(self, cycle: RequestCycle, limit: BodyLimit) -> bytes:
        message = await cycle.receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return self._next(cycle, message, limit)
        # It grows in place and gives its bytes away; joining chunks would copy all of them. Closed
        # by an error, it frees them before the error is answered.
        with BytesIO() as body:
            body.write(self._next(cycle, message, limit))
            while message.get("more_body", False):
                message = await cycle.receive()
                body.write(self._next(cycle, message, limit))
            return body.getvalue()

    def _next(self, cycle: RequestCycle, message: Message, limit: BodyLimit) -> bytes:
        """Return the next part of a body, counted."""
        if message["type"] == "http.disconnect":
            raise RequestCancelled
        part: bytes = message.get("body", b"")
        limit.check(cycle.body_bytes + len(part))
        self._hold(cycle, len(part))
        return part

    def _hold(self, cycle: RequestCycle, size: int) -> None:
        if self._held + size > self._total:
            raise BodiesFull
        self._held += size
        cycle.body_bytes += size
