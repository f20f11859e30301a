"""Makes the refusal of a row of the error with which /predict would respond."""

from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from service.core.errors import InvalidTensors, Refused, ServiceError
from service.scoring.errors import Refusal
from service.web.errors import LISTED_ERRORS, HTTPError, InvalidValues, field_path, status_of

_ONLY_INSTANCE: Final = "instances.0"


def refusal_of(error: ServiceError) -> Refusal:
    """Return the refusal of a row, the only instance of its request."""
    if isinstance(error, Refused):
        error = InvalidValues([(error.field, error.detail)])
    is_values = isinstance(error, InvalidTensors)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if is_values else status_of(error)
    errors = error.errors if isinstance(error, HTTPError) else None
    return Refusal(
        int(status),
        error.detail,
        tuple({**each, "field": _from_instance(each["field"])} for each in errors or ()),
    )


def from_validation(error: ValidationError) -> InvalidValues:
    """Return what the frameworks answer to values that do not pass validation."""
    items = error.errors(include_url=False, include_context=False, include_input=False)
    listed = [(field_path(item["loc"]), item["msg"]) for item in items[:LISTED_ERRORS]]
    return InvalidValues(listed, error.error_count())


def _from_instance(field: str) -> str:
    """Return the path of a field from the instance, not from the top of a request."""
    if field == _ONLY_INSTANCE:
        return ""
    return field.removeprefix(f"{_ONLY_INSTANCE}.")
