"""The service as it was: Litestar, a model, and two routes."""

import joblib
from litestar import Litestar, get, post
from pydantic import BaseModel

model = joblib.load("model.joblib")


class House(BaseModel):
    area: float
    rooms: float


@get("/v1/currency", sync_to_thread=False)
def currency() -> dict[str, str]:
    return {"currency": "EUR"}


@post("/v1/price", sync_to_thread=True)
def price(data: House) -> dict[str, float]:
    (found,) = model.predict([[data.area, data.rooms]])
    return {"price": round(float(found), 2)}


app = Litestar([currency, price])
