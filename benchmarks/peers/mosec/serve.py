"""Mosec as its documentation has it, with batching where ``MAX_BATCH_SIZE`` is over 1.

A batch waits for company for a millisecond, the least that Mosec takes; its default is ten. Where
``MSGSPEC`` is set, msgspec takes the place of Python's own JSON: Mosec asks for a fitting
``deserialize`` and ``serialize``, and depends on msgspec itself.
"""

import os
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from mosec import Server, Worker

Array = np.ndarray[Any, Any]
Body = dict[str, list[list[float]]]
MAX_BATCH_SIZE = int(os.environ["MAX_BATCH_SIZE"])


class Model(Worker):
    def __init__(self) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        (self.source,) = self.session.get_inputs()
        self.shape = [size if isinstance(size, int) else -1 for size in self.source.shape[1:]]
        self.dtype = np.int64 if self.source.type == "tensor(int64)" else np.float32
        outputs = self.session.get_outputs()
        self.output = [node.name for node in outputs if node.type == "tensor(float)"][-1]

    def predict(self, instances: list[Any]) -> list[Any]:
        tensor = np.array(instances, self.dtype).reshape(len(instances), *self.shape)
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return predictions.reshape(len(tensor), -1).tolist()

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": self.predict(data["instances"])}


class BatchingModel(Model):
    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        requests = [each["instances"] for each in data]
        predictions = self.predict([instance for request in requests for instance in request])
        ends = list(accumulate(map(len, requests)))
        return [
            {"predictions": predictions[end - len(request) : end]}
            for request, end in zip(requests, ends, strict=True)
        ]


class Msgspec(Worker):
    decoder = msgspec.json.Decoder(Body)

    def deserialize(self, data: bytes) -> Body:
        return self.decoder.decode(data)

    def serialize(self, data: Body) -> bytes:
        return msgspec.json.encode(data)


class MsgspecModel(Msgspec, Model):
    pass


class MsgspecBatchingModel(Msgspec, BatchingModel):
    pass


if __name__ == "__main__":
    server = Server()
    faster = bool(os.environ["MSGSPEC"])
    if MAX_BATCH_SIZE > 1:
        worker = MsgspecBatchingModel if faster else BatchingModel
        server.append_worker(worker, max_batch_size=MAX_BATCH_SIZE, max_wait_time=1)
    else:
        server.append_worker(MsgspecModel if faster else Model)
    server.run()
