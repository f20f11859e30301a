"""One request and its answer, between the server and whoever answers."""

import asyncio
from collections.abc import Callable
from typing import Final

from service import protocol, telemetry
from service.errors import ClientLeft, DeadlineExceeded, ServiceError, problem, protocol_error
from service.http import Message, Receive, Send, respond


class Exchange:
    """One request and its answer: the server's channels with what the service adds to them.

    ``closing``: tells, when the answer begins, whether it is the last one of its connection.
    It is made in the task that answers.
    """

    def __init__(
        self, request: telemetry.Request, receive: Receive, send: Send, closing: Callable[[], bool]
    ) -> None:
        self.request: Final = request
        self._headers: Final = [
            (b"server", b"inference"),
            (b"x-request-id", request.request_id.encode("ascii")),
        ]
        self._closing: Final = closing
        self.route = "unmatched"
        self.status = 0
        self._receive: Final = receive
        self._send: Final = send
        self._body: bytes | None = None
        self._complete = False
        self._reading = False
        self._late = False
        self._gone: Final = asyncio.Event()
        self._task: Final = asyncio.current_task()
        self._watch_task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive the request's body, afterwards only that the client left.

        Raises:
            DeadlineExceeded: the body did not arrive in time.
        """
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._complete:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._reading = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._late or self._task is None or self._task.uncancel():
                raise
            raise DeadlineExceeded from None
        finally:
            self._reading = False
        self._complete = message["type"] == "http.request" and not message.get("more_body", False)
        return message

    def replay(self, body: bytes) -> None:
        """Have a body that was read already received again."""
        self._body = body

    async def send(self, message: Message) -> None:
        """Send a message of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._closing():
                self._headers.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)

    async def refuse(self, error: ServiceError, path: str) -> None:
        """Answer with an error, unless an answer has begun or nobody is there to read it."""
        telemetry.record_refusal(error)
        if isinstance(error, ClientLeft):
            self.status = error.status
            return
        if self.status:
            return
        render = protocol_error if protocol.owns(path) else problem
        headers, body = render(error, self.request.request_id)
        await respond(self.send, error.status, headers, body)

    def look_after(self, now: float) -> None:
        """Watch the client of a request that takes a while, and end the wait for a late body.

        ``now``: by the event loop's clock.
        """
        if self._complete and self._watch_task is None:
            self._watch_task = asyncio.create_task(self._watch())
        if self._reading and self._task is not None and now >= self.request.deadline:
            self._late = True
            self._reading = False
            self._task.cancel()

    def close(self) -> None:
        """Stop watching the client."""
        if self._watch_task is not None:
            self._watch_task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
        for abandon in tuple(self.request.abandon):
            abandon()
