"""Routes as an owner may have them, for the tests of what the service adds to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Router, WebSocket, get, post, websocket
from litestar.exceptions import (
    ClientException,
    HTTPException,
    NotFoundException,
    PermissionDeniedException,
)
from litestar.params import FromPath, FromQuery, JSONBody
from pydantic import BaseModel, Field

HAS_WEBSOCKETS = True
SOLD_OUT = {"left": 0}
"""What /own/sold-out says beside its text, None if the framework's errors have only a text."""


class Order(BaseModel):
    count: int = Field(gt=0)


@contextmanager
def hooks(app: Any) -> Iterator[list[str] | None]:
    """Give a list of the hooks that the application calls, None if the framework has none."""
    called: list[str] = []

    def start() -> None:
        called.append("start")

    def end() -> None:
        called.append("end")

    app.on_startup.append(start)
    app.on_shutdown.append(end)
    yield called
    app.on_startup.remove(start)
    app.on_shutdown.remove(end)


@get("/own/items/{number:int}")
async def item(number: FromPath[int]) -> int:
    return 2 * number


@get("/own/double")
async def double(number: FromQuery[int]) -> int:
    return 2 * number


@post("/own/orders")
async def order(data: JSONBody[Order]) -> int:
    return 2 * data.count


@get("/own/refusal")
async def refusal() -> None:
    raise HTTPException("none left", status_code=409, headers={"x-stock": "0"})


@get("/own/sold-out")
async def sold_out() -> None:
    raise HTTPException("sold out", status_code=409, extra=SOLD_OUT)


@get("/own/missing")
async def missing() -> None:
    raise NotFoundException("no such item")


@get("/own/forbidden")
async def forbidden() -> None:
    raise PermissionDeniedException("not yours")


@get("/own/suspicious")
async def suspicious() -> None:
    raise ClientException("odd")


@get("/own/defect")
async def defect() -> None:
    raise RuntimeError("a secret that must not leave the service")


@get("/own/span")
async def span() -> dict[str, str]:
    from managed.spans import own_span

    return own_span()


@get("/own/span-in-thread", sync_to_thread=True)
def span_in_thread() -> dict[str, str]:
    from managed.spans import own_span

    return own_span()


@websocket("/own/socket")
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


router = Router(
    "/",
    route_handlers=[
        item,
        double,
        order,
        refusal,
        sold_out,
        missing,
        forbidden,
        suspicious,
        defect,
        span,
        span_in_thread,
        socket,
    ],
)
