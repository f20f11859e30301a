"""What one instance and one prediction of the benchmark's models are."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    """A vector of features."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    features: list[float] = Field(min_length=1, max_length=4096, description="One per feature")


class Prediction(BaseModel):
    """The model's answer."""

    scores: list[float] = Field(description="One per class, or the embedding")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Make the model's inputs, one row per instance."""
    rows = [instance.features for instance in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Make one prediction of each row of the model's outputs."""
    return [Prediction(scores=row) for row in outputs["scores"].tolist()]
