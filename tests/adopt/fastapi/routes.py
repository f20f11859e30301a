"""The routes of the old service."""

from fastapi import APIRouter

from service.dependencies import PredictorDep
from service.predict import Instance

router = APIRouter()


@router.get("/v1/currency")
def currency() -> dict[str, str]:
    return {"currency": "EUR"}


@router.post("/v1/price")
async def price(house: Instance, predictor: PredictorDep) -> dict[str, float]:
    (found,) = await predictor.predict([house])
    return {"price": round(found.prediction, 2)}
