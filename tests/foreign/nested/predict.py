"""Models in models, and a rule about two fields."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.core.tensors import Tensors


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    price: float = Field(ge=0)
    count: int = 1


class Period(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start: int
    end: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError("the end is before the start")
        return self


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"items": [{"price": 1.5, "count": 2}], "period": {"start": 1, "end": 2}}]
        },
    )

    items: list[Item] = Field(min_length=1)
    period: Period
    parent: "Instance | None" = None


class Share(BaseModel):
    of: float


class Prediction(BaseModel):
    total: float
    shares: list[Share]


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [
        (
            sum(item.price * item.count for item in each.items),
            each.period.end - each.period.start,
        )
        for each in instances
    ]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [
        Prediction(total=total, shares=[Share(of=total / 2)] * 2)
        for total in outputs["total"].tolist()
    ]
