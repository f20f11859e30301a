"""The routes of the old service."""

from django.http import HttpRequest
from ninja import Router

from service.dependencies import get_predictor
from service.predict import Instance

router = Router()


@router.get("/v1/currency")
def currency(request: HttpRequest) -> dict[str, str]:
    return {"currency": "EUR"}


@router.post("/v1/price")
async def price(request: HttpRequest, house: Instance) -> dict[str, float]:
    (found,) = await get_predictor(request).predict([house])
    return {"price": round(found.prediction, 2)}
