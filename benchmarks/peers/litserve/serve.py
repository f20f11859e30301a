"""LitServe as its documentation has it, with batching where ``MAX_BATCH_SIZE`` is over 1.

With ``FAST_QUEUE`` its processes talk through ZeroMQ.
"""

import os
from itertools import accumulate
from typing import Any

import litserve as ls
import numpy as np
import onnxruntime

Array = np.ndarray[Any, Any]


class Model(ls.LitAPI):
    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        (self.source,) = self.session.get_inputs()
        self.shape = [size if isinstance(size, int) else -1 for size in self.source.shape[1:]]
        self.dtype = np.int64 if self.source.type == "tensor(int64)" else np.float32
        outputs = self.session.get_outputs()
        self.output = [node.name for node in outputs if node.type == "tensor(float)"][-1]

    def decode_request(self, request: dict[str, Any]) -> Array:
        instances = request["instances"]
        return np.array(instances, self.dtype).reshape(len(instances), *self.shape)

    def predict(self, tensor: Array) -> Array:
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return predictions.reshape(len(tensor), -1)

    def encode_response(self, predictions: Array) -> dict[str, Any]:
        return {"predictions": predictions.tolist()}


class BatchingModel(Model):
    def batch(self, tensors: list[Array]) -> Array:
        self.ends = list(accumulate(map(len, tensors)))
        return np.concatenate(tensors)

    def unbatch(self, predictions: Array) -> list[Array]:
        return np.split(predictions, self.ends[:-1])


if __name__ == "__main__":
    size = int(os.environ["MAX_BATCH_SIZE"])
    timeout = float(os.environ["BATCH_TIMEOUT"])
    api = BatchingModel(max_batch_size=size, batch_timeout=timeout) if size > 1 else Model()
    fast_queue = bool(os.environ["FAST_QUEUE"])
    server = ls.LitServer(api, accelerator="cpu", devices=1, fast_queue=fast_queue)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
