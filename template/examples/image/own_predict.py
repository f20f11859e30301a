"""Photos, and the animal on them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors
from service.core.uploads import ImageFile

ANIMALS: Final = ("cat", "dog", "none")
MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION: Final = np.array([0.229, 0.224, 0.225], np.float32)


class Instance(BaseModel):
    """A photo."""

    model_config = ConfigDict(extra="forbid")

    image: ImageFile = Field(description="JPEG, PNG or WebP")


class Prediction(BaseModel):
    """What a photo shows."""

    label: str = Field(description="The most probable animal")
    probability: float = Field(description="Its probability, from 0 to 1")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    rows = []
    for each in instances:
        pixels = each.image.array((224, 224)).astype(np.float32) / 255
        rows.append(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))
    return {"pixels": np.stack(rows)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [
        Prediction(label=ANIMALS[row.index(max(row))], probability=max(row))
        for row in outputs["probabilities"].tolist()
    ]
