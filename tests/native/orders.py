"""A body with the types that JSON has no notation for, and strict numbers."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import Base64Bytes, BaseModel, Field


class Color(Enum):
    RED = "red"


class Order(BaseModel):
    id: UUID
    at: datetime
    color: Color
    price: Decimal
    photo: Base64Bytes
    size: tuple[int, int]
    count: int = Field(strict=True)


EXAMPLE: dict[str, Any] = {
    "id": "a3bb189e-8bf9-3888-9912-ace4e6543002",
    "at": "2026-11-26T12:00:00Z",
    "color": "red",
    "price": "1.10",
    "photo": "aGVsbG8=",
    "size": [3, 4],
    "count": 2,
}
EXPECTED = "a3bb189e-8bf9-3888-9912-ace4e6543002 2026 RED 1.10 hello 4 2"


def describe(order: Order) -> str:
    """Return what became of the values, as text."""
    return (
        f"{order.id} {order.at.year} {order.color.name} {order.price} {order.photo.decode()} "
        f"{order.size[1]} {order.count}"
    )
