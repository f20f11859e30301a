"""What an instance and a prediction are, and how they are converted to tensors and back.

This file is yours: an update of the template never touches it.
"""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors

Sentiment = Literal["negative", "positive"]
SENTIMENTS: Final[tuple[Sentiment, ...]] = get_args(Sentiment)
"""In the order of the model's probabilities."""


class Instance(BaseModel):
    """A text to judge."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "The weather was lovely."}]},
    )

    text: str = Field(min_length=1, max_length=2000, description="One or two sentences in English")


class Prediction(BaseModel):
    """The sentiment of one text."""

    label: Sentiment = Field(description="The most probable sentiment")
    probabilities: dict[str, float] = Field(
        description="Probability of each sentiment, from 0 to 1"
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
    return [
        Prediction(
            label=SENTIMENTS[row.index(max(row))],
            probabilities=dict(zip(SENTIMENTS, row, strict=True)),
        )
        for row in outputs["probabilities"].tolist()
    ]
