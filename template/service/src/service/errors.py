"""What can go wrong while a request is answered, and how it is told on the wire.

Outside ``/v2`` an error is an RFC 9457 problem document, under ``/v2`` it is what the Open
Inference Protocol asks for: ``{"error": "…"}``. Texts never carry tracebacks, paths or values of
the model.
"""

from collections.abc import Sequence
from http import HTTPStatus
from http.client import responses
from typing import Any, ClassVar

import orjson

Headers = list[tuple[bytes, bytes]]


class ServiceError(Exception):
    """An answer other than success, raised anywhere and rendered in one place."""

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    reason: ClassVar[str | None] = None
    """The label under which the metric of rejected requests counts this error."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> Headers:
        """Headers that belong to this error, whatever its body."""
        return []

    @property
    def members(self) -> dict[str, Any]:
        """Members that the problem document has beyond the standard ones."""
        return {}


class Malformed(ServiceError):
    """The bytes are not what their headers or their format say."""

    status = HTTPStatus.BAD_REQUEST
    reason = "malformed"


class InvalidTensors(Malformed):
    """Tensors that contradict themselves or the model's metadata."""


class Unauthorized(ServiceError):
    status = HTTPStatus.UNAUTHORIZED
    reason = "unauthorized"

    def __init__(self) -> None:
        super().__init__("A valid API key is needed: 'Authorization: Bearer …' or 'X-API-Key: …'.")

    @property
    def headers(self) -> Headers:
        return [(b"www-authenticate", b"Bearer")]


class NotFound(ServiceError):
    status = HTTPStatus.NOT_FOUND

    def __init__(self, detail: str = "There is nothing at this path.") -> None:
        super().__init__(detail)


class MethodNotAllowed(ServiceError):
    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"This path answers to {self.allowed} only.")

    @property
    def headers(self) -> Headers:
        return [(b"allow", self.allowed.encode("ascii"))]


class TooLarge(ServiceError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    reason = "too_large"


class UnsupportedMediaType(ServiceError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    reason = "unsupported_media_type"


class InvalidValues(ServiceError):
    """Well-formed JSON with wrong values: every wrong field, with its path and the reason."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "invalid"

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        count = len(errors)
        super().__init__(f"{count} field{'s' if count != 1 else ''} did not pass validation.")
        self.errors = [{"field": field, "reason": reason} for field, reason in errors]

    @property
    def members(self) -> dict[str, Any]:
        return {"errors": self.errors}


class InferenceFailed(ServiceError):
    """The model raised: the cause is in the log, under the request id."""

    reason = "failed"

    def __init__(self) -> None:
        super().__init__("The model could not process this request.")


class InternalError(ServiceError):
    """A defect of the service or of the user's own routes; the log has it."""

    reason = "error"

    def __init__(self) -> None:
        super().__init__("The service failed to answer this request.")


class Unavailable(ServiceError):
    """The service cannot take the request now.

    ``retry_after``: seconds until another try has a fair chance.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after

    @property
    def headers(self) -> Headers:
        return [(b"retry-after", str(self.retry_after).encode("ascii"))]


class NotReady(Unavailable):
    reason = "not_ready"

    def __init__(self) -> None:
        super().__init__("The model is not ready.", retry_after=1)


class QueueFull(Unavailable):
    reason = "queue_full"

    def __init__(self, retry_after: int) -> None:
        super().__init__("The queue is full, or too long for the deadline.", retry_after)


class DeadlineExceeded(ServiceError):
    status = HTTPStatus.GATEWAY_TIMEOUT
    reason = "deadline"

    def __init__(self) -> None:
        super().__init__("The deadline passed before the prediction was made.")


class ClientLeft(ServiceError):
    """The client closed the connection, so nobody reads this answer.

    499 is the status under which proxies log such requests; it never goes on the wire.
    """

    status = 499
    reason = "disconnected"

    def __init__(self) -> None:
        super().__init__("The client left.")


def problem(error: ServiceError, request_id: str) -> tuple[Headers, bytes]:
    """Render an error as ``application/problem+json`` (RFC 9457)."""
    body = {
        "type": "about:blank",
        "title": responses.get(error.status, "Error"),
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
        **error.members,
    }
    return [(b"content-type", b"application/problem+json"), *error.headers], orjson.dumps(body)


def protocol_error(error: ServiceError, request_id: str) -> tuple[Headers, bytes]:
    """Render an error as the Open Inference Protocol does."""
    text = f"{error.detail} (request {request_id})" if error.status >= 500 else error.detail
    return [(b"content-type", b"application/json"), *error.headers], orjson.dumps({"error": text})
