import keras
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
network = keras.saving.load_model("models/houses.keras")


class House(BaseModel):
    area: float
    rooms: float
    garden: float


class Prediction(BaseModel):
    price: float


class Request(BaseModel):
    instances: list[House]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    rows = [(each.area, each.rooms, each.garden) for each in request.instances]
    prices = network.predict_on_batch(np.array(rows, np.float32))
    return Response(predictions=[Prediction(price=price) for [price] in prices.tolist()])


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
