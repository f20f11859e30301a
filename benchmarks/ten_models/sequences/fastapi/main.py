from typing import Annotated

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()
session = onnxruntime.InferenceSession("models/sequences.onnx")


class Sequence(BaseModel):
    ids: Annotated[list[int], Field(min_length=1)]


class Prediction(BaseModel):
    scores: list[float]


class Request(BaseModel):
    instances: list[Sequence]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    predictions = []
    for each in request.instances:
        [scores] = session.run(["scores"], {"ids": np.array([each.ids], np.int64)})
        predictions.append(Prediction(scores=scores[0].tolist()))
    return Response(predictions=predictions)


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
