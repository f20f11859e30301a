"""The routes of the old service."""

from litestar import Router, get, post

from service.dependencies import PredictorDep
from service.predict import Instance


@get("/v1/currency", sync_to_thread=False)
def currency() -> dict[str, str]:
    return {"currency": "EUR"}


@post("/v1/price")
async def price(data: Instance, predictor: PredictorDep) -> dict[str, float]:
    (found,) = await predictor.predict([data])
    return {"price": round(found.prediction, 2)}


router = Router("/", route_handlers=[currency, price])
