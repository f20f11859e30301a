"""Errors as HTTP responses.

Outside ``/v2`` an error is a problem document (RFC 9457). Under ``/v2`` it has the form of the Open
Inference Protocol: ``{"error": "…"}``. Under ``/v1``, if an embedding is served, it has OpenAI's.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from http.client import responses
from typing import Any, Final, NamedTuple

import orjson

from service.core.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidTensors,
    Refused,
    RequestCancelled,
    ServiceError,
    TooLarge,
    Unavailable,
)
from service.ops import metrics

log = logging.getLogger("service")

CLIENT_CLOSED_REQUEST: Final = 499
"""The status under which proxies log a request whose client left. It is never sent."""

LISTED_ERRORS: Final = 100
"""Wrong values that a response lists."""
_STATUSES: Final[dict[type[ServiceError], int]] = {
    InvalidTensors: HTTPStatus.BAD_REQUEST,
    Refused: HTTPStatus.BAD_REQUEST,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InferenceFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    RequestCancelled: CLIENT_CLOSED_REQUEST,
}


class HTTPError(ServiceError):
    """A response other than success.

    ``errors``: what the problem document lists as such, None for nothing.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Any = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.errors = errors


class Malformed(HTTPError):
    """The bytes are not what their headers or their format say."""

    reason = "malformed"

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, detail)


class Unauthorized(HTTPError):
    reason = "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.UNAUTHORIZED,
            "A valid API key is needed: 'Authorization: Bearer …' or 'X-API-Key: …'.",
            {"www-authenticate": "Bearer"},
        )


class NotFound(HTTPError):
    def __init__(self, detail: str = "There is nothing at this path.") -> None:
        super().__init__(HTTPStatus.NOT_FOUND, detail)


class MethodNotAllowed(HTTPError):
    def __init__(self, allowed: Iterable[str]) -> None:
        methods = ", ".join(sorted(allowed))
        super().__init__(
            HTTPStatus.METHOD_NOT_ALLOWED, f"This path accepts {methods} only.", {"allow": methods}
        )


class BodiesFull(Unavailable):
    """The bodies of other requests take all the memory that bodies may take."""

    reason = "bodies_full"

    def __init__(self) -> None:
        super().__init__("The service holds as many bytes of requests as it may.", retry_after=1)


class TooManyHeaders(HTTPError):
    """The request has more headers than are read."""

    reason = "too_large"

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)


class UnsupportedMediaType(HTTPError):
    """The body is of a type, or packed in a way, that is not read here."""

    reason = "unsupported_media_type"

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


class InvalidValues(HTTPError):
    """Well-formed JSON with wrong values.

    ``errors``: the path of each value, and the reason; the response lists the first
    `LISTED_ERRORS`. ``count``: how many there are, if ``errors`` leaves some out.
    """

    reason = "invalid"

    def __init__(self, errors: Sequence[tuple[str, str]], count: int = 0) -> None:
        count = max(count, len(errors))
        detail = f"{count} field{'s' if count != 1 else ''} did not pass validation."
        listed = [{"field": field, "reason": reason} for field, reason in errors[:LISTED_ERRORS]]
        if listed and count > len(listed):
            detail += f" The first {len(listed)} are listed."
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=listed)


class InvalidParameter(HTTPError):
    """A wrong value in a request of OpenAI's API. ``param``: its name."""

    reason = "invalid"

    def __init__(self, detail: str, param: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, detail)
        self.param = param


class ModelNotFound(NotFound):
    """A request of OpenAI's API for another model."""


class InternalError(HTTPError):
    """A defect of the service or of the owner's routes. Only the log says what it is."""

    reason = "error"

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed to answer this request."
        )


class ErrorResponse(NamedTuple):
    """An error, ready to be sent by any framework."""

    status: int
    headers: dict[str, str]
    body: bytes


def problem(error: ServiceError, request_id: str) -> ErrorResponse:
    """Respond with ``application/problem+json`` (RFC 9457), and record the error.

    Tensors are made of instances here, so it is their values that are wrong.
    """
    _record(error)
    if isinstance(error, Refused):
        error = InvalidValues([(_refused_path(error), error.detail)])
    is_values = isinstance(error, InvalidTensors)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if is_values else status_of(error)
    document = {
        "type": "about:blank",
        "title": responses.get(status, "Error"),
        "status": status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if isinstance(error, HTTPError) and error.errors is not None:
        document["errors"] = error.errors
    headers = {**_headers(error), "content-type": "application/problem+json"}
    return ErrorResponse(status, headers, orjson.dumps(document, default=str))


def protocol_error(error: ServiceError, request_id: str) -> ErrorResponse:
    """Respond as the Open Inference Protocol does, and record the error."""
    _record(error)
    status = status_of(error)
    text = f"{error} (request {request_id})" if status >= 500 else str(error)
    headers = {**_headers(error), "content-type": "application/json"}
    return ErrorResponse(status, headers, orjson.dumps({"error": text}))


def openai_error(error: ServiceError, request_id: str) -> ErrorResponse:
    """Respond as OpenAI's API does, and record the error."""
    _record(error)
    status = status_of(error)
    param, code = None, None
    match error:
        case InvalidParameter():
            param = error.param
        case Refused():
            param = "input" if error.instance is None else f"input.{error.instance}"
        case ModelNotFound():
            param, code = "model", "model_not_found"
        case Unauthorized():
            code = "invalid_api_key"
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    document = {
        "message": f"{error.detail} (request {request_id})" if failed else error.detail,
        "type": "server_error" if failed else "invalid_request_error",
        "param": param,
        "code": code,
    }
    headers = {**_headers(error), "content-type": "application/json"}
    return ErrorResponse(status, headers, orjson.dumps({"error": document}))


def from_framework(
    status: int,
    detail: object = None,
    headers: Mapping[str, str] | None = None,
    errors: object = None,
) -> HTTPError:
    """Translate the HTTP exception of a framework, whether the framework or a route raised it.

    ``detail``: a text, or structured data, which becomes the problem's ``errors``.
    """
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(lower.get("allow", "").replace(" ", "").split(","))
    phrase = responses.get(status, "Error")
    if status == HTTPStatus.NOT_FOUND and detail in (None, "", phrase):
        return NotFound()
    if detail is None or isinstance(detail, str):
        return HTTPError(status, detail or phrase, lower, errors)
    return HTTPError(status, phrase, lower, errors=detail)


def from_exception(cause: BaseException) -> InternalError:
    """Return an error for an exception that nobody expected; `problem` logs its cause."""
    error = InternalError()
    error.__cause__ = cause
    return error


def field_path(location: Sequence[object]) -> str:
    """Return the path of a wrong value. Values of the body are named from its top."""
    parts = location[1:] if location[:1] == ("body",) else location
    return ".".join(str(part) for part in parts)


def _refused_path(error: Refused) -> str:
    if error.instance is None:
        return error.field
    return f"instances.{error.instance}.{error.field}".removesuffix(".")


def status_of(error: ServiceError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, HTTPError):
        return error.status
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


def _headers(error: ServiceError) -> dict[str, str]:
    if isinstance(error, Unavailable):
        return {"retry-after": str(error.retry_after)}
    return error.headers if isinstance(error, HTTPError) else {}


def _record(error: ServiceError) -> None:
    """Count an error, and log the exception that caused it."""
    if error.reason:
        metrics.record_rejection(error.reason)
    if error.__cause__ is not None:
        what = "inference failed" if isinstance(error, InferenceFailed) else "unexpected error"
        log.error(what, exc_info=error.__cause__)
