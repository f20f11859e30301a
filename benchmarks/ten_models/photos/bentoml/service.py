import bentoml
import numpy as np
import onnxruntime
from PIL.Image import Image
from pydantic import BaseModel

LABELS = ("cat", "dog", "none")


class Prediction(BaseModel):
    label: str
    probability: float


@bentoml.service
class Animals:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession("models/animals.onnx")

    @bentoml.api(batchable=True)
    def predict(self, image: list[Image]) -> list[Prediction]:
        pictures = [np.asarray(each.convert("RGB").resize((224, 224))) for each in image]
        pixels = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255
        [probabilities] = self.session.run(["probabilities"], {"pixels": pixels})
        return [
            Prediction(label=LABELS[row.index(max(row))], probability=max(row))
            for row in probabilities.tolist()
        ]
