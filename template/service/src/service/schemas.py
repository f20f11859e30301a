"""The bodies of the protocol and of errors as pydantic models, for the OpenAPI document only.

Tensors are read and written by `service.open_inference`, which looks at bytes and not at models.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.tensors import DTYPES

Shape = Annotated[list[int], Field(description="Size of each dimension")]
VariableShape = Annotated[
    list[int], Field(description="Size of each dimension, -1 where it varies")
]
Datatype = Annotated[
    str, Field(description="Type of the elements", json_schema_extra={"enum": list(DTYPES)})
]
Data = Annotated[
    list[Any],
    Field(
        default_factory=list, description="Elements in row-major order, flat or nested as the shape"
    ),
]


class FieldError(BaseModel):
    """A value that did not pass validation."""

    field: str = Field(description="Path of the value", examples=["instances.0.width"])
    reason: str = Field(description="What is wrong with it")


class Problem(BaseModel):
    """Why the request was not answered (RFC 9457)."""

    type: str = Field(description="Kind of problem, as a URI", examples=["about:blank"])
    title: str = Field(description="Name of the status")
    status: int = Field(description="HTTP status")
    detail: str = Field(description="What went wrong")
    request_id: str = Field(description="Id of the request, as in the log of the service")
    errors: list[FieldError] = Field(
        default_factory=list, description="With status 422: every wrong field"
    )


class ProtocolError(BaseModel):
    """Why the request was not answered, as the Open Inference Protocol has it."""

    error: str = Field(description="What went wrong")


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str = Field(description="Name of the service")
    version: str = Field(description="Version of the service")
    extensions: list[str] = Field(
        description="Extensions of the protocol", examples=[["binary_tensor_data"]]
    )


class Liveness(BaseModel):
    """Whether the process can answer."""

    live: bool = Field(description="Always true")


class Readiness(Liveness):
    """Whether predictions can be had."""

    ready: bool = Field(description="False while loading, warming up or draining")


class TensorMetadata(BaseModel):
    """A tensor that the model takes or gives."""

    name: str = Field(description="Name of the tensor")
    datatype: Datatype
    shape: VariableShape


class ModelMetadata(BaseModel):
    """What the model is, and which tensors it takes and gives."""

    name: str = Field(description="Name of the model")
    versions: list[str] = Field(description="Versions that can be asked")
    platform: str = Field(description="Runtime of the model")
    inputs: list[TensorMetadata] = Field(description="Tensors that it takes")
    outputs: list[TensorMetadata] = Field(description="Tensors that it gives")
    parameters: dict[str, Any] = Field(
        description="What else there is to know", examples=[{"max_batch_rows": 64}]
    )


class TensorData(BaseModel):
    """A tensor with its elements."""

    name: str = Field(description="Name of the tensor")
    shape: Shape
    datatype: Datatype
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="'binary_data_size': its bytes behind the JSON"
    )
    data: Data


class InputTensor(TensorData):
    """A tensor for the model, its elements in ``data`` or behind the JSON as binary data."""


class RequestedOutput(BaseModel):
    """A tensor that the answer shall have."""

    name: str = Field(description="Name of the tensor")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="'binary_data': whether behind the JSON as binary data"
    )


class InferenceRequest(BaseModel):
    """Tensors for the model."""

    id: str = Field(default_factory=str, description="Comes back in the answer")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="'timeout': microseconds until the answer is of no use any more; "
        "'binary_data_output': whether outputs come as binary data unless they say otherwise",
    )
    inputs: list[InputTensor] = Field(min_length=1, description="Every input of the model")
    outputs: list[RequestedOutput] = Field(
        default_factory=list, description="Outputs that are wanted, all where there are none"
    )


class OutputTensor(TensorData):
    """A tensor from the model, its elements in ``data`` or behind the JSON as binary data."""


class InferenceResponse(BaseModel):
    """Tensors from the model."""

    model_name: str = Field(description="Name of the model")
    model_version: str = Field(description="Version of the model")
    id: str = Field(default_factory=str, description="What the request had")
    outputs: list[OutputTensor] = Field(description="The outputs that were asked for")
