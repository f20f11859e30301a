"""The errors of web frameworks, told as the service's own."""

from collections.abc import Mapping
from http import HTTPStatus
from http.client import responses

from service.errors import Headers, MethodNotAllowed, NotFound, ServiceError


class HTTPError(ServiceError):
    """An error that a route raised by the means of its framework: any status, text and headers."""

    def __init__(self, status: int, detail: str, headers: Headers) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]
        self._headers = headers

    @property
    def headers(self) -> Headers:
        return self._headers


def from_http(
    status: int, detail: object = "", headers: Mapping[str, str] | None = None
) -> ServiceError:
    """Translate the HTTP exception of a framework, raised by itself or by the user's routes."""
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    phrase = responses.get(status, "Error")
    text = str(detail or phrase)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(lower.get("allow", "").replace(" ", "").split(","))
    if status == HTTPStatus.NOT_FOUND and text == phrase:
        return NotFound()
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lower.items()]
    return HTTPError(status, text, raw)
