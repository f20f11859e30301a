"""A raw ASGI application that runs the model on the event loop, with nothing of a service."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import onnxruntime
import orjson

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
    tensor = np.array(instances, dtype).reshape(len(instances), *shape)
    (predictions,) = session.run([output], {source.name: tensor})
    answer = {"predictions": predictions.reshape(len(instances), -1)}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
