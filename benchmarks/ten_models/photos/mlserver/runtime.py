import io
from typing import List

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import decode_args
from PIL import Image


class Animals(MLModel):
    async def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, images: List[bytes]) -> np.ndarray:
        pictures = [Image.open(io.BytesIO(each)).convert("RGB") for each in images]
        pixels = np.stack([np.asarray(each.resize((224, 224))) for each in pictures])
        pixels = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        return self.session.run(["probabilities"], {"pixels": pixels})[0]
