"""Fields that the schema does not have are ignored."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"area": 5.0}]})

    area: float


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    return {"features": np.array([[each.area] for each in instances], dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
