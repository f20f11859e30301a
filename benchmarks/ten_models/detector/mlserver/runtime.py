import io

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from PIL import Image


class Detector(MLModel):
    async def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        [content] = Base64Codec.decode_input(payload.inputs[0])
        picture = Image.open(io.BytesIO(content)).convert("L").resize((64, 64))
        pixels = np.asarray(picture, np.float32)[None, None] / 255
        boxes, scores = self.session.run(["boxes", "scores"], {"image": pixels})
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("boxes", boxes),
                NumpyCodec.encode_output("scores", scores),
            ],
        )
