import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import decode_args


class Sequences(MLModel):
    async def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, ids: np.ndarray) -> np.ndarray:
        return self.session.run(["scores"], {"ids": ids})[0]
