from typing import Literal, get_args

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel
from xgboost import XGBClassifier

City = Literal["Oslo", "Rome"]

app = FastAPI()
model = XGBClassifier()
model.load_model("models/buyers.ubj")


class Person(BaseModel):
    age: float | None = None
    city: City | None = None


class Prediction(BaseModel):
    label: int
    probabilities: dict[str, float]


class Request(BaseModel):
    instances: list[Person]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    table = pd.DataFrame([each.model_dump() for each in request.instances])
    table = table.astype({"age": float, "city": pd.CategoricalDtype(get_args(City))})
    return Response(
        predictions=[
            Prediction(label=row.index(max(row)), probabilities=dict(zip("01", row)))
            for row in model.predict_proba(table).tolist()
        ]
    )


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
