"""The request and the response of /predict, around the owner's instances and predictions."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from service.core.manifest import ModelInfo
from service.web.errors import LISTED_ERRORS, InvalidValues, field_path

PATH: Final = "/predict"

_LISTABLE: Final = 10_000
"""Pydantic makes an object of all errors to list some; of more, that takes long."""

_TYPES_OF_JSON: Final = frozenset({"bool", "dict", "float", "int", "list", "none", "str"})

InstanceT = TypeVar("InstanceT", bound=BaseModel)
PredictionT = TypeVar("PredictionT", bound=BaseModel)


class PredictRequest(BaseModel, Generic[InstanceT]):
    """Instances to predict."""

    model_config = ConfigDict(extra="forbid")

    instances: list[InstanceT] = Field(
        min_length=1, description="What to predict, one prediction for each"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _few_errors(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise no more errors than are listed: frameworks make an object of every one."""
        instances = value.get("instances") if isinstance(value, dict) else None
        if isinstance(instances, list) and (strict := _strict_instances(cls)):
            value = {**value, "instances": _validate_as_json(instances, strict)}
        elif isinstance(instances, list) and len(instances) > LISTED_ERRORS:
            value = {**value, "instances": _validate_in_parts(instances, validate)}
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


def _validate_in_parts(instances: list[Any], validate: Callable[[Any], Any]) -> list[Any]:
    """Validate instances, few at a time, by a function that validates a request.

    Returns:
        The valid instances; or the given ones, if their errors are so few that all are listed.

    Raises:
        InvalidValues: there are more errors.
    """
    valid: list[Any] = []
    listed: list[tuple[str, str]] = []
    count = 0
    for start in range(0, len(instances), LISTED_ERRORS):
        try:
            valid += validate({"instances": instances[start : start + LISTED_ERRORS]}).instances
        except ValidationError as error:
            count += error.error_count()
            if len(listed) < LISTED_ERRORS:
                listed += _errors(error, start)
    if count > LISTED_ERRORS:
        raise InvalidValues(listed, count)
    return instances if count else valid


def _validate_as_json(instances: list[Any], adapter: TypeAdapter[list[Any]]) -> list[Any]:
    """Validate instances as the JSON that they were.

    Raises:
        InvalidValues: some are wrong.
    """
    try:
        return adapter.validate_json(json.dumps(instances))
    except ValidationError as error:
        listed = [(f"instances.{path}", reason) for path, reason in _errors(error)]
        raise InvalidValues(listed, error.error_count()) from None


@functools.cache
def _strict_instances(request: type[PredictRequest[Any]]) -> TypeAdapter[list[Any]] | None:
    """Return what validates instances as JSON, None if their schema does not need that.

    Frameworks validate what they have parsed. Pydantic's strict mode then takes a datetime only
    from a datetime; from JSON it takes the text.
    """
    instance = instance_type(request)
    adapter = TypeAdapter(list[instance])  # type: ignore[valid-type]
    return adapter if _is_strict(adapter.core_schema) else None


def _is_strict(schema: Any) -> bool:
    """Return whether a part of a schema takes only objects of types that JSON does not have."""
    if isinstance(schema, Mapping):
        strict = schema.get("strict") is True and schema.get("type") not in _TYPES_OF_JSON
        return strict or any(map(_is_strict, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_is_strict, schema))


def _errors(error: ValidationError, first: int = 0) -> list[tuple[str, str]]:
    """Return path and reason of wrong values, none if there are so many that it takes long.

    ``first``: the place of the first instance.
    """
    if error.error_count() > _LISTABLE:
        return []
    listed = []
    items = error.errors(include_url=False, include_context=False, include_input=False)
    for item in items[:LISTED_ERRORS]:
        location = item["loc"]
        if first:
            name, place, *rest = location
            location = (name, first + int(place), *rest)
        listed.append((field_path(location), item["msg"]))
    return listed


def instance_type(request: type[PredictRequest[Any]]) -> type[BaseModel]:
    """Return the type of the instances in a request."""
    (instance,) = get_args(request.model_fields["instances"].annotation)
    return instance  # type: ignore[no-any-return]
