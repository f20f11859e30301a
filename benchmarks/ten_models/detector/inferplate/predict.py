"""Pictures, and the boxes of what is on them."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from service.core.tensors import Tensors
from service.core.uploads import ImageFile


class Instance(BaseModel):
    image: ImageFile


class Prediction(BaseModel):
    boxes: list[list[float]]
    scores: list[float]


def to_tensors(instances: Sequence[Instance]) -> list[Tensors]:
    pictures = [each.image.array((64, 64), mode="L") for each in instances]
    return [{"image": pixels[None, None].astype(np.float32) / 255} for pixels in pictures]


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(boxes=outputs["boxes"].tolist(), scores=outputs["scores"].tolist())]
