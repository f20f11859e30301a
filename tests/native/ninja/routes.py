"""Routes that use what Django Ninja documents, in place of the owner's."""

from collections.abc import AsyncIterator

import numpy as np
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router, Status
from ninja.errors import HttpError

from service.dependencies import get_context, get_engine, get_predictor
from service.orders import Order, describe
from service.predict import Instance, Prediction


class OutOfStock(Exception):
    """An exception of the owner's."""


router = Router()


@router.get("/own-error")
async def own_error(request: HttpRequest) -> None:
    raise OutOfStock("none left")


@router.get("/defect")
async def defect(request: HttpRequest) -> None:
    raise RuntimeError("a secret that must not leave the service")


@router.get("/stream")
async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number};".encode()

    return StreamingHttpResponse(parts(), content_type="text/plain")


@router.post("/best")
async def best(request: HttpRequest, instances: list[Instance]) -> Prediction:
    predictions = await get_predictor(request).predict(instances)
    return max(predictions, key=lambda each: max(each.probabilities.values()))


@router.post("/tensors")
async def tensors(request: HttpRequest) -> list[int]:
    measurements = np.ones((3, 4), np.float32)
    outputs = await get_engine(request).infer({"measurements": measurements}, get_context(request))
    return list(outputs["probabilities"].shape)


@router.get("/structured")
async def structured(request: HttpRequest) -> None:
    raise HttpError(409, [{"stock": 0}])


@router.get("/")
async def home(request: HttpRequest, response: HttpResponse) -> str:
    response["Access-Control-Allow-Origin"] = "*"
    return request.path


@router.get("/query")
async def query(request: HttpRequest, n: int = Query(gt=0)) -> int:
    return n


@router.post("/two-bodies")
async def two_bodies(request: HttpRequest, first: Instance, second: Instance) -> str:
    return "both"


@router.post("/created", response={201: str})
async def created(request: HttpRequest) -> Status[str]:
    return Status(201, "created")


@router.post("/orders")
async def orders(request: HttpRequest, order: Order) -> str:
    return describe(order)
