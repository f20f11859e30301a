"""Instances and predictions that fit the `managed.support.Doubler`."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    """Two numbers."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"left": 1.5, "right": -2.0}]}
    )

    left: float = Field(strict=True, description="The first number")
    right: float = Field(strict=True, description="The second number")


class Prediction(BaseModel):
    """Twice the numbers."""

    left: float = Field(description="Twice the first number")
    right: float = Field(description="Twice the second number")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    return {"x": np.array([(each.left, each.right) for each in instances], dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(left=left, right=right) for left, right in outputs["y"].tolist()]
