from typing import Literal

import bentoml
import joblib
import pandas as pd
from pydantic import BaseModel


class Passenger(BaseModel):
    age: float | None = None
    fare: float | None = None
    city: Literal["Oslo", "Rome"] | None = None


class Prediction(BaseModel):
    prediction: str
    probabilities: dict[str, float]


@bentoml.service
class Survival:
    def __init__(self) -> None:
        self.pipeline = joblib.load("models/survival.joblib")

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Passenger]) -> list[Prediction]:
        table = pd.DataFrame([each.model_dump() for each in instances])
        table = table.astype({"age": float, "fare": float, "city": "str"})
        rows = self.pipeline.predict_proba(table).tolist()
        return [
            Prediction(prediction=label, probabilities=dict(zip(self.pipeline.classes_, row)))
            for label, row in zip(self.pipeline.predict(table), rows)
        ]
