"""Routes as an owner may have them, for the tests of what the service adds to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Router
from ninja.errors import HttpError
from pydantic import BaseModel, Field

HAS_WEBSOCKETS = False
SOLD_OUT = None
"""What /own/sold-out says beside its text, None if the framework's errors have only a text."""

router = Router()


class Order(BaseModel):
    count: int = Field(gt=0)


@contextmanager
def hooks(_: Any) -> Iterator[list[str] | None]:
    """Give a list of the hooks that the application calls, None if the framework has none."""
    yield None


@router.get("/own/items/{number}")
async def item(request: HttpRequest, number: int) -> int:
    return 2 * number


@router.get("/own/double")
async def double(request: HttpRequest, number: int) -> int:
    return 2 * number


@router.post("/own/orders")
async def order(request: HttpRequest, order: Order) -> int:
    return 2 * order.count


@router.get("/own/refusal")
async def refusal(request: HttpRequest, response: HttpResponse) -> None:
    response["x-stock"] = "0"
    raise HttpError(409, "none left")


@router.get("/own/sold-out")
async def sold_out(request: HttpRequest) -> None:
    raise HttpError(409, "sold out")


@router.get("/own/missing")
async def missing(request: HttpRequest) -> None:
    raise Http404("no such item")


@router.get("/own/forbidden")
async def forbidden(request: HttpRequest) -> None:
    raise PermissionDenied("not yours")


@router.get("/own/suspicious")
async def suspicious(request: HttpRequest) -> None:
    raise SuspiciousOperation("odd")


@router.get("/own/defect")
async def defect(request: HttpRequest) -> None:
    raise RuntimeError("a secret that must not leave the service")


@router.get("/own/span")
async def span(request: HttpRequest) -> dict[str, str]:
    from managed.spans import own_span

    return own_span()


@router.get("/own/span-in-thread")
def span_in_thread(request: HttpRequest) -> dict[str, str]:
    from managed.spans import own_span

    return own_span()
