"""What an instance and a prediction are, and how they are converted to tensors and back.

This file is yours: an update of the template never touches it.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors
from service.core.uploads import ImageFile

Digit = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
DIGITS: Final[tuple[Digit, ...]] = get_args(Digit)
"""In the order of the model's probabilities."""
SIZE: Final = (8, 8)
"""Width and height of what the model takes."""
BRIGHTEST: Final = 255
EXAMPLE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAR0lEQVR42iXGQQ2AMBAAsCYgAAknYRL2RAYSkI"
    "ATggIkLChAAhKGg+PBqyXuzF4NljiuOQ6w5Qo8+6/Wy5/I00hVvIie2SYf10oTZGGKrC0AAAAASUVORK5CYII="
)
"""A picture of a 3, as the base64 of a PNG."""


class Instance(BaseModel):
    """A picture of one handwritten digit."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": EXAMPLE}]},
    )

    image: ImageFile = Field(description="JPEG, PNG or WebP: white on black, filled by the digit")


class Prediction(BaseModel):
    """The most probable digit of one picture."""

    label: Digit = Field(description="The most probable digit")
    probabilities: dict[str, float] = Field(description="Probability of each digit, from 0 to 1")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each.

    A file that is no such image is refused by `array`. For another reason, raise
    `service.core.errors.Refused`: the client gets a 422 with it.
    """
    pictures = [instance.image.array(SIZE, mode="L") for instance in instances]
    pixels = np.stack(pictures).astype(np.float32) / BRIGHTEST
    return {"pixels": pixels[:, np.newaxis]}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [
        Prediction(
            label=DIGITS[row.index(max(row))],
            probabilities=dict(zip(DIGITS, row, strict=True)),
        )
        for row in outputs["probabilities"].tolist()
    ]
