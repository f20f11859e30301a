import lightgbm
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
ranker = lightgbm.Booster(model_file="models/ranker.txt")
names = ranker.feature_name()


class Candidate(BaseModel):
    features: dict[str, float]


class Prediction(BaseModel):
    prediction: float


class Request(BaseModel):
    instances: list[Candidate]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    rows = [[each.features.get(name, np.nan) for name in names] for each in request.instances]
    scores = ranker.predict(np.array(rows)).tolist()
    return Response(predictions=[Prediction(prediction=score) for score in scores])


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
