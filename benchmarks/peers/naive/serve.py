"""The service that tutorials write: FastAPI, a pydantic list, the model called in the handler.

The handler is ``def``, which runs in a thread, or ``async def`` where ``ASYNC`` is set.
"""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
(source,) = session.get_inputs()
shape = [size if isinstance(size, int) else -1 for size in source.shape[1:]]
dtype = np.int64 if source.type == "tensor(int64)" else np.float32
output = [node.name for node in session.get_outputs() if node.type == "tensor(float)"][-1]


class Request(BaseModel):
    instances: list[list[float]]


class Response(BaseModel):
    predictions: list[list[float]]


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


def predict(request: Request) -> Response:
    count = len(request.instances)
    tensor = np.array(request.instances, dtype=dtype).reshape(count, *shape)
    (predictions,) = session.run([output], {source.name: tensor})
    return Response(predictions=predictions.reshape(count, -1).tolist())


async def predict_on_the_loop(request: Request) -> Response:
    return predict(request)


app.post("/predict")(predict_on_the_loop if os.environ["ASYNC"] else predict)
