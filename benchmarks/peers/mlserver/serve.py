"""MLServer's custom runtime as its documentation has it."""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        (self.source,) = self.session.get_inputs()
        self.shape = [size if isinstance(size, int) else -1 for size in self.source.shape[1:]]
        self.dtype = np.int64 if self.source.type == "tensor(int64)" else np.float32
        outputs = self.session.get_outputs()
        self.output = [node.name for node in outputs if node.type == "tensor(float)"][-1]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        instances = NumpyCodec.decode_input(payload.inputs[0])
        tensor = instances.astype(self.dtype, copy=False).reshape(len(instances), *self.shape)
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return NumpyRequestCodec.encode_response(
            model_name=self.name, payload=predictions.reshape(len(instances), -1)
        )
