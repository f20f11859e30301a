"""The bodies of /v1/embeddings, as OpenAI's API has them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.manifest import Manifest

Texts = Annotated[list[str], Field(min_length=1)]


class EmbeddingsRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | Texts = Field(description="A text, or a list of texts; not ids of tokens")
    model: str = Field(description="Name of the model")
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="A list of numbers, or their bytes as 32-bit floats in base64"
    )
    dimensions: int | None = Field(
        default=None, description="Length of an embedding; only the model's own can be asked for"
    )
    user: str | None = Field(default=None, description="Ignored")


class Embedding(BaseModel):
    """The embedding of one text."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="Place of the text in the request")
    embedding: list[float] | str = Field(description="Numbers, or base64 if it was asked for")


class Usage(BaseModel):
    """What the model has read."""

    prompt_tokens: int = Field(description="Tokens of all texts; 0 if the model does not say")
    total_tokens: int = Field(description="The same")


class EmbeddingsResponse(BaseModel):
    """Embeddings, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str = Field(description="Name of the model")
    usage: Usage


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="What went wrong")
    type: str = Field(description="Kind of error", examples=["invalid_request_error"])
    param: str | None = Field(description="The part of the request that is wrong")
    code: str | None = Field(description="Which error it is", examples=["model_not_found"])


class OpenAIError(BaseModel):
    """Why the request was not answered, in the form of OpenAI's API."""

    error: ErrorDetail


def is_embedding(manifest: Manifest) -> bool:
    """Return whether the service of a model has the endpoint."""
    return manifest.task == "embedding"
