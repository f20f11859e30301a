"""One request and its response: the channels of the server, and what the service adds to them."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from service.core.errors import DeadlineExceeded, RequestCancelled, ServiceError
from service.core.request_context import RequestContext
from service.ops import metrics
from service.web.asgi import Headers, Message, Receive, Send
from service.web.errors import CLIENT_CLOSED_REQUEST, ErrorResponse

_DISCARDED_BYTES: Final = 2**20
"""A body that nobody needs is not read if it is longer: the connection is closed instead."""


class RequestCycle:
    """One request and its response. It is made in the task that answers.

    ``is_head``: whether the response must have no body. ``length``: the bytes of the body that the
    request announces, None if it does not tell how many. ``draining``: whether the service drains,
    so that clients must not reuse their connections. ``route``: the template of the path, for
    metrics. ``status``: zero until the response begins. ``body_bytes``: those of the request that
    are in memory. ``received``, ``sent``: the bytes of the bodies on the wire, compressed as they
    are. ``http_version``: such as 1.1.
    """

    def __init__(
        self,
        context: RequestContext,
        receive: Receive,
        send: Send,
        *,
        is_head: bool,
        http_version: str,
        length: int | None,
        draining: Callable[[], bool],
    ) -> None:
        self.context: Final = context
        self.route = "unmatched"
        self.status = 0
        self.body_bytes = 0
        self.received = 0
        self.sent = 0
        self._ended: float | None = None
        self._headers: Final = [
            (b"server", b"inference"),
            (b"x-request-id", context.request_id.encode("ascii")),
        ]
        self.http_version: Final = http_version
        self._can_close: Final = http_version.startswith("1")
        self._draining: Final = draining
        self._receive: Final = receive
        self._send: Final = send
        self._is_head: Final = is_head
        self._length: Final = length
        self._body: bytes | None = None
        self._on_replayed: Callable[[RequestContext], None] | None = None
        self._complete = False
        self._must_close = False
        self._reading = False
        self._late = False
        self._disconnected: asyncio.Event | None = None
        self._task: Final = asyncio.current_task()
        self._disconnect_task: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """Time from the arrival of the request to the end of the response, or until now."""
        return (self._ended or time.monotonic()) - self.context.arrival

    async def receive(self) -> Message:
        """Receive the body of the request; after that, only that the client disconnected.

        Raises:
            DeadlineExceeded: the body did not arrive in time.
        """
        if self._body is not None:
            body, self._body = self._body, None
            if self._on_replayed is not None:
                self._on_replayed(self.context)
            return {"type": "http.request", "body": body, "more_body": False}
        if self._complete:
            if not self.context.cancelled:
                self._disconnected = asyncio.Event()
                await self._disconnected.wait()
            return {"type": "http.disconnect"}
        self._reading = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # `check` cancels this task when the body is late. That is an error of this request;
            # any other cancellation, such as the server's, must pass.
            if not self._late or self._task is None or self._task.uncancel():
                raise
            raise DeadlineExceeded from None
        finally:
            self._reading = False
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        return message

    def replay(
        self, body: bytes, on_replayed: Callable[[RequestContext], None] | None = None
    ) -> None:
        """Let a body that was read already be received again.

        ``on_replayed``: called with the context of the request when it is received.
        """
        self._body = body
        self._on_replayed = on_replayed

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the headers that every response has.

        Nothing is sent after the client has disconnected.
        """
        if message["type"] == "http.response.start":
            added = await self._begin(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        else:
            if not message.get("more_body", False):
                self._ended = time.monotonic()
            if self._is_head:
                message = {**message, "body": b""}
            elif not self.context.cancelled:
                self.sent += _size(message)
        if not self.context.cancelled:
            await self._send(message)

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a response with its whole body, unless the client has disconnected."""
        length = (b"content-length", str(len(body)).encode("ascii"))
        added = await self._begin(status)
        self._ended = time.monotonic()
        if self.context.cancelled:
            return
        start = {"type": "http.response.start", "status": status}
        await self._send({**start, "headers": [*headers, length, *added]})
        if self._is_head:
            body = b""
        self.sent = len(body)
        await self._send({"type": "http.response.body", "body": body})

    def add_headers(self, headers: Headers) -> None:
        """Add headers that the response has, whoever makes it."""
        self._headers.extend(headers)

    def close_connection(self) -> None:
        """Let the response end the connection: what follows on it cannot be trusted."""
        self._must_close = True

    async def reject(
        self, error: ServiceError, render: Callable[[ServiceError, str], ErrorResponse]
    ) -> None:
        """Respond with an error, unless a response has begun or the client is gone."""
        if self.status:
            return
        if isinstance(error, RequestCancelled):
            self.status = CLIENT_CLOSED_REQUEST
            metrics.record_rejection(error.reason)
            return
        status, headers, body = render(error, self.context.request_id)
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        await self.respond(status, encoded, body)

    def check(self) -> None:
        """Notice that the client of a slow request disconnects, and end the wait for a late body.

        It is called now and then, so that requests that are answered at once need no further task.
        """
        if self._complete and self._disconnect_task is None:
            self._disconnect_task = asyncio.create_task(self._wait_for_disconnect())
        late = time.monotonic() >= self.context.deadline
        if late and self._reading and self._task is not None:
            self._late = True
            self._reading = False
            self._task.cancel()

    def close(self) -> None:
        """Stop waiting for the client to disconnect."""
        if self._disconnect_task is not None:
            self._disconnect_task.cancel()

    async def _begin(self, status: int) -> list[tuple[bytes, bytes]]:
        """Record the status of the response; return the headers that every response has."""
        self.status = status
        if self._can_close and (
            self._must_close or self._draining() or not await self._discard_body()
        ):
            self._headers.append((b"connection", b"close"))
        return self._headers

    async def _discard_body(self) -> bool:
        """Read what is left of the body, so that the connection can be used for another request.

        Returns:
            Whether nothing is left: it was neither too large nor too late.
        """
        if self._length == 0 or self._complete:
            return True
        if self._length is not None and self._length > _DISCARDED_BYTES:
            return False  # its client may wait for the answer before it sends anything
        size = 0
        while not self._complete and size <= _DISCARDED_BYTES:
            if time.monotonic() >= self.context.deadline:
                return False
            try:
                message = await self.receive()
            except DeadlineExceeded:
                return False
            if message["type"] == "http.disconnect":
                return False
            size += len(message.get("body", b""))
        return self._complete

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.context.cancel()
        if self._disconnected is not None:
            self._disconnected.set()


def _size(message: Message) -> int:
    """Return how many bytes of a body a message of the response sends."""
    if message["type"] == "http.response.pathsend":
        return Path(message["path"]).stat().st_size
    return len(message.get("body", b""))
