"""What an instance and a prediction are, and how they are converted to tensors and back.

This file is yours: an update of the template never touches it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from service.core.errors import Refused
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


@asynccontextmanager
async def resources(model_dir: Path) -> AsyncIterator[Tokenizer]:
    """Read the tokenizer beside the model, which says how it pads and truncates."""
    yield Tokenizer.from_file(str(model_dir / "tokenizer.json"))


def to_tensors(instances: Sequence[Instance], tokenizer: Tokenizer) -> Tensors:
    """Convert instances to the model's inputs, one row each.

    Raises:
        Refused: a text has no words; its client gets a 422 with the reason.
    """
    encodings = tokenizer.encode_batch([instance.text for instance in instances])
    for index, each in enumerate(encodings):
        if not any(each.attention_mask):
            raise Refused("has no words", field="text", instance=index)
    return {
        "input_ids": np.array([each.ids for each in encodings], dtype=np.int64),
        "attention_mask": np.array([each.attention_mask for each in encodings], dtype=np.int64),
    }


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(embedding=vector) for vector in outputs["embedding"].tolist()]
