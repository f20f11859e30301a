"""A raw ASGI application that batches, with nothing of a service around it.

Requests wait in a list, which the one model thread takes whole whenever it is free.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import numpy as np
import onnxruntime
import orjson

Array = np.ndarray[Any, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEADERS = [(b"content-type", b"application/json")]

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
(source,) = session.get_inputs()
shape = [size if isinstance(size, int) else -1 for size in source.shape[1:]]
dtype = np.int64 if source.type == "tensor(int64)" else np.float32
output = [node.name for node in session.get_outputs() if node.type == "tensor(float)"][-1]


def run(tensors: Sequence[Array]) -> list[Array]:
    """Run [n, ...] tensors as one batch and give each its own [n, values] predictions."""
    tensor = np.concatenate(tensors) if len(tensors) > 1 else tensors[0]
    (predictions,) = session.run([output], {source.name: tensor})
    predictions = predictions.reshape(len(tensor), -1)
    ends = accumulate(len(part) for part in tensors)
    return [predictions[end - len(part) : end] for part, end in zip(tensors, ends, strict=True)]


class Queue:
    """Hands everything that waits to the model thread, each time that it is free."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[Array, asyncio.Future[Array]]] = []
        self._worker: asyncio.Task[None] | None = None

    def put(self, tensor: Array) -> asyncio.Future[Array]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((tensor, future))
        if self._worker is None:
            self._worker = loop.create_task(self._work(loop))
        return future

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            tensors, futures = zip(*self._waiting, strict=True)
            self._waiting.clear()
            try:
                parts = await loop.run_in_executor(self._thread, run, tensors)
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, part in zip(futures, parts, strict=True):
                if not future.done():
                    future.set_result(part)
        self._worker = None


queue = Queue()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    body = await _predict(receive) if scope["method"] == "POST" else b"{}"
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": body})


async def _predict(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    instances = orjson.loads(body)["instances"]
    predictions = await queue.put(np.array(instances, dtype).reshape(len(instances), *shape))
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)
