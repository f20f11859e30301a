import pandas as pd
from catboost import CatBoostClassifier
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = CatBoostClassifier().load_model("models/buyers.cbm")


class Person(BaseModel):
    age: float | None = None
    city: str


class Prediction(BaseModel):
    label: str
    probabilities: dict[str, float]


class Request(BaseModel):
    instances: list[Person]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    table = pd.DataFrame([each.model_dump() for each in request.instances])
    classes = model.classes_.tolist()
    return Response(
        predictions=[
            Prediction(label=classes[row.index(max(row))], probabilities=dict(zip(classes, row)))
            for row in model.predict_proba(table.astype({"age": float})).tolist()
        ]
    )


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
