"""Routes that use what Litestar documents, in place of the owner's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import numpy as np
from litestar import Request, Response, Router, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from service.core.engine import Engine
from service.dependencies import ContextDep, EngineDep, PredictorDep
from service.orders import Order, describe
from service.predict import Instance, Prediction


class OutOfStock(Exception):
    """An exception of the owner's."""


worked: list[list[int]] = []


def out_of_stock(_: Request, error: OutOfStock) -> Response[str]:
    return Response(f"sorry: {error}", status_code=418, media_type="text/plain")


async def color(x_color: Annotated[str, HeaderParameter(name="x-color")]) -> str:
    return x_color.upper()


@get("/dependency", dependencies={"value": Provide(color)})
async def dependency(value: NamedDependency[str]) -> str:
    return value


@get("/lifespan")
async def state(state: State) -> str:
    return state.greeting


@get("/own-error")
async def own_error() -> None:
    raise OutOfStock("none left")


@get("/defect")
async def defect() -> None:
    raise RuntimeError("a secret that must not leave the service")


async def infer(engine: Engine) -> list[int]:
    outputs = await engine.infer({"measurements": np.ones((2, 4), np.float32)})
    return list(outputs["probabilities"].shape)


async def work_later(engine: Engine) -> None:
    await asyncio.sleep(0.01)
    worked.append(await infer(engine))


@post("/background", status_code=202)
async def background(engine: EngineDep) -> Response[str]:
    return Response("accepted", background=BackgroundTask(work_later, engine))


@get("/stream")
async def stream() -> Stream:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number};".encode()

    return Stream(parts(), media_type="text/plain")


@websocket("/socket")
async def socket(socket: WebSocket, engine: EngineDep) -> None:
    await socket.accept()
    await socket.receive_text()
    await socket.send_json(await infer(engine))
    await socket.close()


@post("/best", status_code=200)
async def best(data: JSONBody[list[Instance]], predictor: PredictorDep) -> Prediction:
    predictions = await predictor.predict(data)
    return max(predictions, key=lambda each: max(each.probabilities.values()))


@post("/tensors")
async def tensors(engine: EngineDep, context: ContextDep) -> list[int]:
    outputs = await engine.infer({"measurements": np.ones((3, 4), np.float32)}, context)
    return list(outputs["probabilities"].shape)


@get("/structured")
async def structured() -> None:
    raise HTTPException("sold out", status_code=409, extra=[{"stock": 0}], headers={"X-Stock": "0"})


@get("/", response_headers={"Access-Control-Allow-Origin": "*"})
async def home(request: Request) -> str:
    return request.url.path


@get("/query")
async def query(n: Annotated[int, QueryParameter(gt=0)]) -> int:
    return n


@post("/created")
async def created() -> str:
    return "created"


@post("/orders", status_code=200)
async def orders(data: JSONBody[Order]) -> str:
    return describe(data)


router = Router(
    "/",
    route_handlers=[
        dependency,
        state,
        own_error,
        defect,
        background,
        stream,
        socket,
        best,
        tensors,
        structured,
        home,
        query,
        created,
        orders,
    ],
    exception_handlers={OutOfStock: out_of_stock},
)
