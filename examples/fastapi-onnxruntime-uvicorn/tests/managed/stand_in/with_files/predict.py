"""Instances that hold an image. The `managed.support.Doubler` doubles its width and height."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors
from service.core.uploads import ImageFile


class Instance(BaseModel):
    """An image, and by what its size is multiplied."""

    model_config = ConfigDict(extra="forbid")

    image: ImageFile = Field(description="The image")
    factor: float = Field(default=1, strict=True, description="Factor of the size")
    title: str = Field(default="", max_length=20, description="Not used")
    steps: list[int] = Field(default_factory=list, description="Not used")


class Prediction(BaseModel):
    """Twice the size."""

    left: float = Field(description="Twice the width")
    right: float = Field(description="Twice the height")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    rows = []
    for each in instances:
        height, width, _ = each.image.array(max_pixels=10_000).shape
        rows.append((width * each.factor, height * each.factor))
    return {"x": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(left=left, right=right) for left, right in outputs["y"].tolist()]
