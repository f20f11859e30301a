"""The same, strictly: what JSON has no type for is still read from its text."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from uuid import UUID

import numpy as np
from pydantic import Base64Bytes, BaseModel, ConfigDict

from service.core.tensors import Tensors

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-01-01T00:00:10Z",
                    "day": "2026-01-02",
                    "lasting": "PT1M",
                    "id": "00000000-0000-0000-0000-000000000007",
                    "price": "1.50",
                    "color": "red",
                    "size": 2,
                    "place": [1.0, 2.0],
                    "tags": ["a", "b"],
                    "data": "AAEC",
                }
            ]
        },
    )

    at: datetime
    day: date
    lasting: timedelta
    id: UUID
    price: Decimal
    color: Color
    size: Size
    place: tuple[float, float]
    tags: frozenset[str] = frozenset()
    data: Base64Bytes


class Prediction(BaseModel):
    total: float
    at: datetime
    id: UUID
    price: Decimal
    color: Color
    size: Size
    place: tuple[float, float]
    tags: frozenset[str]
    data: Base64Bytes
    day: date
    lasting: timedelta
    raw: bytes
    colors: dict[Color, int]


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [
        (
            (each.at - EPOCH).total_seconds(),
            each.day.day,
            each.lasting.total_seconds(),
            each.id.int,
            float(each.price),
            each.color is Color.RED,
            each.size,
            *each.place,
            len(each.tags),
            sum(each.data),
        )
        for each in instances
    ]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [
        Prediction(
            total=total,
            at=EPOCH + timedelta(seconds=total),
            id=UUID(int=int(total)),
            price=Decimal(f"{total:.2f}"),
            color=Color.BLUE,
            size=Size.LARGE,
            place=(total, 0.5),
            tags=frozenset("a"),
            data=b"AAEC",
            day=EPOCH.date(),
            lasting=timedelta(seconds=total),
            raw=b"text",
            colors={Color.RED: 1},
        )
        for total in outputs["total"].tolist()
    ]
