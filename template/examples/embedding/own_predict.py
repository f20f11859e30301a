"""Articles of a help centre, and their vectors for a search."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    """An article, or what somebody asks."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "How do I get my money back?"}]}
    )

    text: str = Field(min_length=1, max_length=5000, description="Text of the article")
    title: str = Field(default="", max_length=200, description="Its title, if it has one")


class Prediction(BaseModel):
    """What a vector database stores."""

    vector: list[float] = Field(description="Embedding of title and text")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    texts = [f"{article.title}\n{article.text}".encode() for article in instances]
    return {"text": np.array(texts, dtype=object)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(vector=vector) for vector in outputs["embedding"].tolist()]
