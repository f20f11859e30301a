"""BentoML as its documentation has it, with adaptive batching where ``BATCHABLE`` is set."""

import os

import bentoml
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float32]


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
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

    @bentoml.api(batchable=bool(os.environ["BATCHABLE"]), max_batch_size=64, max_latency_ms=10_000)
    def predict(self, instances: Array) -> Array:
        tensor = instances.astype(self.dtype, copy=False).reshape(len(instances), *self.shape)
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return predictions.reshape(len(instances), -1)
