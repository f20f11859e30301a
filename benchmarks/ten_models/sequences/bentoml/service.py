from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from pydantic import BaseModel, Field


class Sequence(BaseModel):
    ids: Annotated[list[int], Field(min_length=1)]


class Prediction(BaseModel):
    scores: list[float]


@bentoml.service
class Sequences:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession("models/sequences.onnx")

    @bentoml.api
    def predict(self, instances: list[Sequence]) -> list[Prediction]:
        predictions = []
        for each in instances:
            [scores] = self.session.run(["scores"], {"ids": np.array([each.ids], np.int64)})
            predictions.append(Prediction(scores=scores[0].tolist()))
        return predictions
