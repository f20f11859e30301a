"""The service as it was: FastAPI, a model, and two routes."""

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("model.joblib")


class House(BaseModel):
    area: float
    rooms: float


@app.get("/v1/currency")
def currency() -> dict[str, str]:
    return {"currency": "EUR"}


@app.post("/v1/price")
def price(house: House) -> dict[str, float]:
    (found,) = model.predict([[house.area, house.rooms]])
    return {"price": round(float(found), 2)}
