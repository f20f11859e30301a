"""Houses and their prices."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    """A house for sale."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"area": 120.5, "rooms": 5, "garden": True}]},
    )

    area: float = Field(strict=True, gt=0, le=2000, description="Living area in square metres")
    rooms: int = Field(strict=True, ge=1, le=50, description="Number of rooms")
    garden: bool = Field(strict=True, description="Whether there is a garden")


class Prediction(BaseModel):
    """What a house should cost."""

    price: float = Field(description="Expected price in EUR")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    rows = [(house.area, house.rooms, house.garden) for house in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(price=price) for price in outputs["price"].ravel().tolist()]
