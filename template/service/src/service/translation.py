"""The refusals of web frameworks, told as the service's own errors."""

from collections.abc import Mapping
from http import HTTPStatus
from http.client import responses

from service.errors import Headers, MethodNotAllowed, NotFound, ServiceError


class Refusal(ServiceError):
    """What a route refused by the means of its framework: any status, text and headers."""

    def __init__(self, status: int, detail: str, headers: Headers) -> None:
        super().__init__(detail)
        self.status = status
        self._headers = headers

    @property
    def headers(self) -> Headers:
        return self._headers


def from_http(
    status: int, detail: object = "", headers: Mapping[str, str] | None = None
) -> ServiceError:
    """Translate the HTTP exception of a framework, be it the framework's or the user's."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(lower.get("allow", "").replace(" ", "").split(","))
    phrase = responses.get(status, "Error")
    if status == HTTPStatus.NOT_FOUND and detail in ("", phrase):
        return NotFound()
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lower.items()]
    return Refusal(status, str(detail or phrase), encoded)
