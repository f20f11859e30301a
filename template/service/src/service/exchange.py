"""One request and its answer, between the server and whoever answers."""

import asyncio
from collections.abc import Callable
from typing import Final

from service import protocol, telemetry
from service.errors import ClientLeft, ServiceError, problem, protocol_error
from service.http import Message, Receive, Send, respond

_WATCH_AFTER: Final = 0.05
"""Seconds after which it is worth watching whether the client is still there."""


class Exchange:
    """One request and its answer: the server's channels with what the service adds to them.

    ``closing``: tells, when the answer begins, whether it is the last one of its connection.
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
        self._gone: Final = asyncio.Event()
        self._watch_timer: asyncio.TimerHandle | None = None
        self._watch_task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive the request's body, afterwards only that the client left."""
        if self._body is not None:
            message = {"type": "http.request", "body": self._body, "more_body": False}
            self._body = None
            return message
        if self._complete:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = dict(await self._receive())
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._complete = True
            loop = asyncio.get_running_loop()
            self._watch_timer = loop.call_later(_WATCH_AFTER, self._start_watching)
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

    def close(self) -> None:
        """Stop watching the client."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._watch_task is not None:
            self._watch_task.cancel()

    def _start_watching(self) -> None:
        self._watch_task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
        for abandon in tuple(self.request.abandon):
            abandon()
