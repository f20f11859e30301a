"""Support tickets and the team to answer them."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors

TEAMS = ("billing", "delivery", "technology")
"""In the order of the model's probabilities."""


class Instance(BaseModel):
    """A ticket as the customer wrote it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"subject": "Invoice 7", "body": "I paid it twice."}]},
    )

    subject: str = Field(max_length=200, description="Subject of the ticket")
    body: str = Field(min_length=1, max_length=5000, description="Text of the ticket")


class Prediction(BaseModel):
    """The team to answer a ticket."""

    team: str = Field(description="The most probable team")
    confidence: float = Field(description="Its probability, from 0 to 1")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    texts = [f"{ticket.subject}\n{ticket.body}".encode() for ticket in instances]
    return {"text": np.array(texts, dtype=object)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [
        Prediction(team=TEAMS[row.index(max(row))], confidence=max(row))
        for row in outputs["probabilities"].tolist()
    ]
