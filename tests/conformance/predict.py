"""Instances of the `managed.support.Doubler` whose predictions are finite, as the schema says."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors

Finite = Annotated[float, Field(strict=True, ge=-1e38, le=1e38)]


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"left": 1.5, "right": -2.0}]}
    )

    left: Finite
    right: Finite


class Prediction(BaseModel):
    left: float
    right: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    return {"x": np.array([(each.left, each.right) for each in instances], dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(left=left, right=right) for left, right in outputs["y"].tolist()]
