"""The request and the response of /predict, around the owner's instances and predictions."""

from typing import Any, Final, Generic, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from service.core.manifest import ModelInfo
from service.web.errors import LISTED_ERRORS, InvalidValues, field_path

PATH: Final = "/predict"

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT", bound=BaseModel)


class PredictRequest(BaseModel, Generic[InstanceT]):
    """Instances to predict."""

    model_config = ConfigDict(extra="forbid")

    instances: list[InstanceT] = Field(
        min_length=1, description="What to predict, one prediction for each"
    )

    # A framework makes an object of every wrong value before it answers. Where there are more than
    # the answer lists, these two refuse the request with those alone.

    @field_validator("instances", mode="wrap")
    @classmethod
    def _few_errors_in_instances(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, list) or len(value) <= LISTED_ERRORS:
            return validate(value)
        valid: list[Any] = []
        listed: list[tuple[str, str]] = []
        count = 0
        for start in range(0, len(value), LISTED_ERRORS):
            try:
                valid += validate(value[start : start + LISTED_ERRORS])
            except ValidationError as error:
                count += error.error_count()
                if len(listed) < LISTED_ERRORS:
                    listed += _errors(error, start)
        if count > LISTED_ERRORS:
            raise InvalidValues(listed, count)
        return validate(value) if count else valid

    @model_validator(mode="wrap")
    @classmethod
    def _few_errors(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(value)
        except ValidationError as error:
            if error.error_count() <= LISTED_ERRORS:
                raise
            raise InvalidValues(_errors(error), error.error_count()) from None


class PredictResponse(BaseModel, Generic[PredictionT]):
    """One prediction for each instance, in their order."""

    predictions: list[PredictionT] = Field(description="The predictions, in the instances' order")
    model: ModelInfo = Field(description="The model that made them")


def _errors(error: ValidationError, first: int | None = None) -> list[tuple[str, str]]:
    """Return path and reason of wrong values. ``first``: the place of the first instance."""
    listed = []
    items = error.errors(include_url=False, include_context=False, include_input=False)
    for item in items[:LISTED_ERRORS]:
        location = item["loc"]
        if first is not None:
            place, *rest = location
            location = ("instances", first + int(place), *rest)
        listed.append((field_path(location), item["msg"]))
    return listed


def instance_type(request: type[PredictRequest[Any]]) -> type[BaseModel]:
    """Return the type of the instances in a request."""
    (instance,) = get_args(request.model_fields["instances"].annotation)
    return instance  # type: ignore[no-any-return]
