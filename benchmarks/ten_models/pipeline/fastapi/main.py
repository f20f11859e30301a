from typing import Literal

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
pipeline = joblib.load("models/survival.joblib")


class Passenger(BaseModel):
    age: float | None = None
    fare: float | None = None
    city: Literal["Oslo", "Rome"] | None = None


class Prediction(BaseModel):
    prediction: str
    probabilities: dict[str, float]


class Request(BaseModel):
    instances: list[Passenger]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    table = pd.DataFrame([each.model_dump() for each in request.instances])
    table = table.astype({"age": float, "fare": float, "city": "str"})
    rows = pipeline.predict_proba(table).tolist()
    return Response(
        predictions=[
            Prediction(prediction=label, probabilities=dict(zip(pipeline.classes_, row)))
            for label, row in zip(pipeline.predict(table), rows)
        ]
    )


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
