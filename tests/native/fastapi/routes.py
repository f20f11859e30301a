"""Routes that use what FastAPI documents, in place of the owner's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import numpy as np
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    WebSocket,
)
from fastapi.responses import StreamingResponse

from service.core.engine import Engine
from service.dependencies import ContextDep, EngineDep, PredictorDep
from service.orders import Order, describe
from service.predict import Instance, Prediction


class OutOfStock(Exception):
    """An exception of the owner's."""


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "hello"}


router = APIRouter(lifespan=lifespan)
worked: list[list[int]] = []


async def color(x_color: Annotated[str, Header()]) -> str:
    return x_color.upper()


@router.get("/dependency")
async def dependency(value: Annotated[str, Depends(color)]) -> str:
    return value


@router.get("/lifespan")
async def state(request: Request) -> str:
    greeting: str = request.state.greeting
    return greeting


@router.get("/own-error")
async def own_error() -> None:
    raise OutOfStock("none left")


@router.get("/defect")
async def defect() -> None:
    raise RuntimeError("a secret that must not leave the service")


async def infer(engine: Engine) -> list[int]:
    outputs = await engine.infer({"measurements": np.ones((2, 4), np.float32)})
    return list(outputs["probabilities"].shape)


async def work_later(engine: Engine) -> None:
    await asyncio.sleep(0.01)
    worked.append(await infer(engine))


@router.post("/background", status_code=202)
async def background(tasks: BackgroundTasks, engine: EngineDep) -> str:
    tasks.add_task(work_later, engine)
    return "accepted"


@router.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number};".encode()

    return StreamingResponse(parts(), media_type="text/plain")


@router.websocket("/socket")
async def socket(websocket: WebSocket, engine: EngineDep) -> None:
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_json(await infer(engine))
    await websocket.close()


@router.post("/best")
async def best(instances: list[Instance], predictor: PredictorDep) -> Prediction:
    predictions = await predictor.predict(instances)
    return max(predictions, key=lambda each: max(each.probabilities.values()))


@router.post("/tensors")
async def tensors(engine: EngineDep, context: ContextDep) -> list[int]:
    outputs = await engine.infer({"measurements": np.ones((3, 4), np.float32)}, context)
    return list(outputs["probabilities"].shape)


@router.get("/structured")
async def structured() -> None:
    raise HTTPException(409, detail=[{"stock": 0}], headers={"X-Stock": "0"})


@router.get("/")
async def home(request: Request, response: Response) -> str:
    response.headers["Access-Control-Allow-Origin"] = "*"
    return str(request.url_for("query"))


@router.get("/query")
async def query(n: Annotated[int, Query(gt=0)]) -> int:
    return n


@router.post("/created")
async def created() -> str:
    return "created"


@router.post("/orders")
async def orders(order: Order) -> str:
    return describe(order)


inner = APIRouter(prefix="/{shelf}")
outer = APIRouter(prefix="/books")


@inner.get("/{title}")
async def book(shelf: str, title: str) -> str:
    return f"{shelf}/{title}"


outer.include_router(inner)
router.include_router(outer)
