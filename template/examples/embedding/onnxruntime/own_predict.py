"""Articles of a help centre, and their vectors for a search."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

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


@asynccontextmanager
async def resources(model_dir: Path) -> AsyncIterator[Tokenizer]:
    """Read the tokenizer beside the model."""
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_to_multiple_of=16)
    yield tokenizer


def to_tensors(instances: Sequence[Instance], tokenizer: Tokenizer) -> Tensors:
    """Convert instances to the model's inputs, one row each."""
    texts = [f"{article.title}\n{article.text}" for article in instances]
    encodings = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in encodings], dtype=np.int64),
        "attention_mask": np.array([each.attention_mask for each in encodings], dtype=np.int64),
    }


def to_predictions(outputs: Tensors) -> list[Prediction]:
    """Convert the model's outputs to predictions, one for each row."""
    return [Prediction(vector=vector) for vector in outputs["sentence_embedding"].tolist()]
