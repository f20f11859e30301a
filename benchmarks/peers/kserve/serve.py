"""KServe's custom model server as its documentation has it, for its protocols V1 and V2.

Its logs of requests and of latencies are off.
"""

import os
from typing import Any

import kserve.model_server
import numpy as np
import onnxruntime
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.rest.server import RESTServer
from kserve.utils.utils import get_predict_response


class Predictor(Model):
    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        (self.source,) = self.session.get_inputs()
        self.shape = [size if isinstance(size, int) else -1 for size in self.source.shape[1:]]
        self.dtype = np.int64 if self.source.type == "tensor(int64)" else np.float32
        outputs = self.session.get_outputs()
        self.output = [node.name for node in outputs if node.type == "tensor(float)"][-1]
        self.ready = True
        return self.ready

    def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        if isinstance(payload, InferRequest):
            instances = payload.inputs[0].as_numpy()
        else:
            instances = np.array(payload["instances"])
        tensor = instances.astype(self.dtype, copy=False).reshape(len(instances), *self.shape)
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return get_predict_response(payload, predictions.reshape(len(tensor), -1), self.name)


class LoopbackServer(RESTServer):
    """Listens on loopback, where KServe has no setting and listens on every interface."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.config.host = "127.0.0.1"


if __name__ == "__main__":
    model = Predictor("model")
    model.load()
    kserve.model_server.RESTServer = LoopbackServer
    ModelServer().start([model])
