"""Routes as an owner may have them, for the tests of what the service adds to them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, WebSocket
from pydantic import BaseModel, Field

HAS_WEBSOCKETS = True
SOLD_OUT = {"left": 0}
"""What /own/sold-out says beside its text, None if the framework's errors have only a text."""

_hooks: list[str] = []


class Order(BaseModel):
    count: int = Field(gt=0)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    _hooks.append("start")
    yield
    _hooks.append("end")


router = APIRouter(lifespan=lifespan)


@contextmanager
def hooks(_: Any) -> Iterator[list[str] | None]:
    """Give a list of the hooks that the application calls, None if the framework has none."""
    _hooks.clear()
    yield _hooks


@router.get("/own/items/{number}")
async def item(number: int) -> int:
    return 2 * number


@router.get("/own/double")
async def double(number: int) -> int:
    return 2 * number


@router.post("/own/orders")
async def order(order: Order) -> int:
    return 2 * order.count


@router.get("/own/refusal")
async def refusal() -> None:
    raise HTTPException(409, "none left", {"x-stock": "0"})


@router.get("/own/sold-out")
async def sold_out() -> None:
    raise HTTPException(409, SOLD_OUT)


@router.get("/own/missing")
async def missing() -> None:
    raise HTTPException(404, "no such item")


@router.get("/own/forbidden")
async def forbidden() -> None:
    raise HTTPException(403, "not yours")


@router.get("/own/suspicious")
async def suspicious() -> None:
    raise HTTPException(400, "odd")


@router.get("/own/defect")
async def defect() -> None:
    raise RuntimeError("a secret that must not leave the service")


@router.get("/own/span")
async def span() -> dict[str, str]:
    from managed.spans import own_span

    return own_span()


@router.get("/own/span-in-thread")
def span_in_thread() -> dict[str, str]:
    from managed.spans import own_span

    return own_span()


@router.websocket("/own/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()
