"""What an instance and a prediction are, and how they are converted to tensors and back.

This file is yours: an update of the template never touches it.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    """A text to embed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "The rain is heavy today."}, {"text": "We ate soup."}]
        },
    )

    text: str = Field(min_length=1, max_length=2000, description="One or two sentences in English")


class Prediction(BaseModel):
    """The embedding of one text."""

    embedding: list[float] = Field(
        description="A vector of length one; those of texts on one subject point the same way"
    )


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each.

    For an instance that cannot be converted, raise `service.core.errors.Refused`: its client gets
    a 422 with the reason.
    """
    texts = [instance.text.encode() for instance in instances]
    return {"text": np.array(texts, dtype=object)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(embedding=vector) for vector in outputs["embedding"].tolist()]
