"""What one instance and one prediction are, and how they become tensors and back."""

from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.tensors import Tensors

Sentiment = Literal["negative", "positive"]
SENTIMENTS: Final[tuple[Sentiment, ...]] = get_args(Sentiment)
"""In the order of the model's probabilities."""


class Instance(BaseModel):
    """A text to judge."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
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
    """Make the model's inputs, one row per instance."""
    texts = [instance.text.encode() for instance in instances]
    return {"text": np.array(texts, dtype=object)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Make one prediction of each row of the model's outputs."""
    return [
        Prediction(
            label=SENTIMENTS[row.index(max(row))],
            probabilities=dict(zip(SENTIMENTS, row, strict=True)),
        )
        for row in outputs["probabilities"].tolist()
    ]
