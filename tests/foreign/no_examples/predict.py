"""A schema without examples, without descriptions and without configuration."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from service.core.tensors import Tensors


class Instance(BaseModel):
    area: float


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    return {"features": np.array([[each.area] for each in instances], dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
