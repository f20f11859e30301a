"""The service that tutorials write: FastAPI, a pydantic list, the model called in the handler."""

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
session = onnxruntime.InferenceSession("models/iris.onnx")
SPECIES = ["setosa", "versicolor", "virginica"]


class Measurements(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


class Request(BaseModel):
    instances: list[Measurements]


@app.get("/v2/health/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
def predict(request: Request) -> dict[str, object]:
    rows = [list(instance.model_dump().values()) for instance in request.instances]
    (probabilities,) = session.run(None, {"measurements": np.array(rows, dtype=np.float32)})
    return {
        "predictions": [
            {
                "label": SPECIES[int(row.argmax())],
                "probabilities": dict(zip(SPECIES, row.tolist(), strict=True)),
            }
            for row in probabilities
        ]
    }
