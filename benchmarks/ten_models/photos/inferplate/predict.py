"""Photos, and the animal on them."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from service.core.tensors import Tensors
from service.core.uploads import ImageFile

LABELS = ("cat", "dog", "none")


class Instance(BaseModel):
    image: ImageFile


class Prediction(BaseModel):
    label: str
    probability: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    pixels = np.stack([each.image.array((224, 224)) for each in instances])
    return {"pixels": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [
        Prediction(label=LABELS[row.index(max(row))], probability=max(row))
        for row in outputs["probabilities"].tolist()
    ]
