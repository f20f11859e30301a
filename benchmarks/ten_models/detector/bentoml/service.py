import bentoml
import numpy as np
import onnxruntime
from PIL.Image import Image
from pydantic import BaseModel


class Prediction(BaseModel):
    boxes: list[list[float]]
    scores: list[float]


@bentoml.service
class Detector:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession("models/detector.onnx")

    @bentoml.api
    def predict(self, image: list[Image]) -> list[Prediction]:
        predictions = []
        for each in image:
            pixels = np.asarray(each.convert("L").resize((64, 64)), np.float32)[None, None] / 255
            boxes, scores = self.session.run(["boxes", "scores"], {"image": pixels})
            predictions.append(Prediction(boxes=boxes.tolist(), scores=scores.tolist()))
        return predictions
