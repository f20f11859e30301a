"""Fields that are one of several types."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Instance(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"shape": {"kind": "circle", "radius": 2.0}, "label": "a"}]
        },
    )

    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    label: int | str


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [
        (
            each.shape.radius if isinstance(each.shape, Circle) else each.shape.side,
            each.label if isinstance(each.label, int) else len(each.label),
        )
        for each in instances
    ]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
