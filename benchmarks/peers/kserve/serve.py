"""KServe's custom model server as its documentation has it, asked by its V1 protocol."""

import os
from typing import Any

import kserve.model_server
import numpy as np
import onnxruntime
from kserve import Model, ModelServer
from kserve.protocol.rest.server import RESTServer


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
        payload: dict[str, Any],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        instances = payload["instances"]
        tensor = np.array(instances, self.dtype).reshape(len(instances), *self.shape)
        (predictions,) = self.session.run([self.output], {self.source.name: tensor})
        return {"predictions": predictions.reshape(len(instances), -1).tolist()}


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
