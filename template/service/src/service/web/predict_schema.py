"""The request and the response of /predict, around the owner's instances and predictions."""

from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from service.core.manifest import ModelInfo

PATH: Final = "/predict"

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT", bound=BaseModel)


class PredictRequest(BaseModel, Generic[InstanceT]):
    """Instances to predict."""

    model_config = ConfigDict(extra="forbid")

    instances: list[InstanceT] = Field(
        min_length=1, description="What to predict, one prediction for each"
    )


class PredictResponse(BaseModel, Generic[PredictionT]):
    """One prediction for each instance, in their order."""

    predictions: list[PredictionT] = Field(description="The predictions, in the instances' order")
    model: ModelInfo = Field(description="The model that made them")


def instance_type(request: type[PredictRequest[Any]]) -> type[BaseModel]:
    """Return the type of the instances in a request."""
    (instance,) = get_args(request.model_fields["instances"].annotation)
    return instance  # type: ignore[no-any-return]
