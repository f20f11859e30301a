"""The bodies of the protocol and of errors as pydantic models, for the OpenAPI document only.

`service.web.oip.codec` reads and writes the tensors; it does not use these models.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.core.tensors import DTYPES

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


class RouteProblem(Problem):
    """Why a route of the owner did not answer (RFC 9457)."""

    errors: Any = Field(
        default=None,
        description="What the route says beside its text; with status 422: every wrong field",
    )


class ProtocolError(BaseModel):
    """Why the request was not answered, in the form of the Open Inference Protocol."""

    error: str = Field(description="What went wrong")


class ServerMetadata(BaseModel):
    """The server and its extensions of the protocol."""

    name: str = Field(description="Name of the service")
    version: str = Field(description="Version of the service")
    extensions: list[str] = Field(
        description="Extensions of the protocol", examples=[["binary_tensor_data"]]
    )


class Liveness(BaseModel):
    """Whether the process can answer."""

    live: bool = Field(description="Always true")


class Readiness(Liveness):
    """Whether the service is ready to predict."""

    ready: bool = Field(description="False while loading, warming up or draining")


class TensorMetadata(BaseModel):
    """An input or output of the model."""

    name: str = Field(description="Name of the tensor")
    datatype: Datatype
    shape: VariableShape


class ModelMetadata(BaseModel):
    """The model and its tensors."""

    name: str = Field(description="Name of the model")
    versions: list[str] = Field(description="Versions that are served")
    platform: str = Field(description="Runtime of the model")
    inputs: list[TensorMetadata] = Field(description="Inputs of the model")
    outputs: list[TensorMetadata] = Field(description="Outputs of the model")
    parameters: dict[str, Any] = Field(
        description="Further properties", examples=[{"max_batch_size": 64}]
    )


class TensorData(BaseModel):
    """A tensor with its elements."""

    name: str = Field(description="Name of the tensor")
    shape: Shape
    datatype: Datatype
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="'binary_data_size': size in bytes of the binary data after the JSON",
    )
    data: Data


class InputTensor(TensorData):
    """An input of the model. Its elements are in ``data``, or in binary data after the JSON."""


class RequestedOutput(BaseModel):
    """An output to return."""

    name: str = Field(description="Name of the tensor")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="'binary_data': whether to return it as binary data after the JSON",
    )


class InferenceRequest(BaseModel):
    """Tensors for the model."""

    id: str = Field(default_factory=str, description="Returned with the response")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="'timeout': microseconds after which the client does not need the answer any "
        "more; 'binary_data_output': whether outputs are binary data unless they say otherwise",
    )
    inputs: list[InputTensor] = Field(min_length=1, description="Every input of the model")
    outputs: list[RequestedOutput] = Field(
        default_factory=list, description="Outputs to return; all of them if it is empty"
    )


class OutputTensor(TensorData):
    """An output of the model. Its elements are in ``data``, or in binary data after the JSON."""


class InferenceResponse(BaseModel):
    """Tensors from the model."""

    model_name: str = Field(description="Name of the model")
    model_version: str = Field(description="Version of the model")
    id: str = Field(default_factory=str, description="Id of the request")
    outputs: list[OutputTensor] = Field(description="The requested outputs")
