"""Every field is optional."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"area": 5.0, "rooms": 2}, {}]}
    )

    area: float | None = Field(default=None, strict=True, gt=0)
    rooms: int | None = Field(default=None, strict=True)


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [(each.area or 0, each.rooms or 0) for each in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
