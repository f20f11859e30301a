"""One field with a number for each name."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.errors import Refused
from service.core.tensors import Tensors

NAMES = ("length", "width")


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"features": {"length": 1.0, "width": 2.0}}]},
    )

    features: dict[str, float | None] = Field(max_length=5)


class Prediction(BaseModel):
    total: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    for index, each in enumerate(instances):
        for name in each.features:
            if name not in NAMES:
                raise Refused("is not a feature", field=f"features.{name}", instance=index)
    rows = [[each.features.get(name) or 0 for name in NAMES] for each in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(total=total) for total in outputs["total"].tolist()]
