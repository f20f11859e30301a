"""An instance is one of several models."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel

from service.core.tensors import Tensors


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Instance(RootModel[Annotated[Circle | Square, Field(discriminator="kind")]]):
    model_config = ConfigDict(json_schema_extra={"examples": [{"kind": "circle", "radius": 2.0}]})


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    shapes = [each.root for each in instances]
    rows = [[each.radius if isinstance(each, Circle) else each.side] for each in shapes]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
