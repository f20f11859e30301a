"""What an instance and a prediction are, and how they are converted to tensors and back.

This file is yours: an update of the template never touches it.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors

Species = Literal["setosa", "versicolor", "virginica"]
SPECIES: Final[tuple[Species, ...]] = get_args(Species)
"""In the order of the model's probabilities."""


class Instance(BaseModel):
    """The measurements of one iris flower."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "sepal_length": 5.1,
                    "sepal_width": 3.5,
                    "petal_length": 1.4,
                    "petal_width": 0.2,
                }
            ]
        },
    )

    sepal_length: float = Field(strict=True, gt=0, le=30, description="Length of the sepal in cm")
    sepal_width: float = Field(strict=True, gt=0, le=30, description="Width of the sepal in cm")
    petal_length: float = Field(strict=True, gt=0, le=30, description="Length of the petal in cm")
    petal_width: float = Field(strict=True, gt=0, le=30, description="Width of the petal in cm")


class Prediction(BaseModel):
    """The most probable species of one flower."""

    label: Species = Field(description="The most probable species")
    probabilities: dict[str, float] = Field(description="Probability of each species, from 0 to 1")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each.

    For an instance that cannot be converted, raise `service.core.errors.Refused`: its client gets
    a 422 with the reason.
    """
    rows = [
        (flower.sepal_length, flower.sepal_width, flower.petal_length, flower.petal_width)
        for flower in instances
    ]
    return {"measurements": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [
        Prediction(
            label=SPECIES[row.index(max(row))],
            probabilities=dict(zip(SPECIES, row, strict=True)),
        )
        for row in outputs["probabilities"].tolist()
    ]
