"""Ray Serve as its documentation has it, with ``@serve.batch`` where ``BATCHING`` is set.

Its access logs are off.
"""

import os
from itertools import accumulate
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request

Array = np.ndarray[Any, Any]

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(max_ongoing_requests=256, logging_config=LOGGING)
class Model:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        (self.source,) = self.session.get_inputs()
        self.shape = [size if isinstance(size, int) else -1 for size in self.source.shape[1:]]
        self.dtype = np.int64 if self.source.type == "tensor(int64)" else np.float32
        outputs = self.session.get_outputs()
        self.output = [node.name for node in outputs if node.type == "tensor(float)"][-1]
        self.predict = self.batched if os.environ["BATCHING"] else self.alone

    async def __call__(self, request: Request) -> dict[str, Any]:
        instances = (await request.json())["instances"]
        tensor = np.array(instances, self.dtype).reshape(len(instances), *self.shape)
        return {"predictions": (await self.predict(tensor)).tolist()}

    async def alone(self, tensor: Array) -> Array:
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return predictions.reshape(len(tensor), -1)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def batched(self, tensors: list[Array]) -> list[Array]:
        predictions = await self.alone(np.concatenate(tensors))
        return np.split(predictions, list(accumulate(map(len, tensors)))[:-1])


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])},
        logging_config=LOGGING,
    )
    serve.run(Model.bind(), blocking=True)
