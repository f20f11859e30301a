"""The Django Ninja application: the routes of `service.routes`, and error responses.

`service.web.front` stands before it, with everything that does not depend on the framework.
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from io import BytesIO
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import Resolver404, path, resolve, set_script_prefix

from service.core.errors import ServiceError
from service.dependencies import get_context
from service.ops.process import CannotStart
from service.web.asgi import ASGIApp, Scope
from service.web.errors import (
    LISTED_ERRORS,
    InvalidValues,
    Malformed,
    UnsupportedMediaType,
    field_path,
    from_exception,
    from_framework,
    problem,
)
from service.web.strict_json import is_json

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        # `service.web.front` has limited the body.
        DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        DEBUG_PROPAGATE_EXCEPTIONS=True,  # to the front, which logs them
        FILE_UPLOAD_MAX_MEMORY_SIZE=sys.maxsize,
        ROOT_URLCONF=__name__,
        USE_TZ=True,
    )
logging.getLogger("django.request").setLevel(logging.CRITICAL)  # `service.web.front` logs requests

# Ninja reads Django's settings when it is imported, and so do routes.
from ninja import NinjaAPI, Router  # noqa: E402
from ninja.errors import HttpError, ValidationError, ValidationErrorContext  # noqa: E402
from ninja.parser import Parser  # noqa: E402
from ninja.renderers import JSONRenderer  # noqa: E402
from ninja.responses import NinjaJSONEncoder  # noqa: E402

from service.routes import router  # noqa: E402


class JSONParser(Parser):
    """Reads only what says that it is JSON: no other has been checked by `service.web.front`."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Parse a body.

        Raises:
            UnsupportedMediaType: its content type is not JSON.
        """
        if not is_json(request.META.get("CONTENT_TYPE", "").encode()):
            raise UnsupportedMediaType("The body must be application/json.")
        return super().parse_body(request)


class API(NinjaAPI):
    """Ninja's API, which answers like the other frameworks in two details."""

    def get_content_type(self) -> str:
        """Leave out the charset."""
        return "application/json"

    def validation_error_from_error_contexts(
        self, error_contexts: list[ValidationErrorContext[Any]]
    ) -> ValidationError:
        """Name the values of a body from its top, without the name of the parameter."""
        errors: list[dict[str, Any]] = []
        for context in error_contexts:
            is_whole_body = len(context.model.model_fields) == 1
            for item in super().validation_error_from_error_contexts([context]).errors:
                source, *location = item["loc"]
                if source == "body" and is_whole_body:
                    location = location[1:]
                errors.append({**item, "loc": (source, *location)})
        return ValidationError(errors)


class Renderer(JSONRenderer):
    """Renders NaN and infinities as null, as JSON has neither."""

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes | str:
        try:
            return orjson.dumps(
                data, default=NinjaJSONEncoder().default, option=orjson.OPT_NON_STR_KEYS
            )
        except TypeError:  # such as an integer of more than 64 bits
            rendered: str = super().render(request, data, response_status=response_status)
            return rendered


api = API(openapi_url=None, docs_url=None, parser=JSONParser(), renderer=Renderer())


if not isinstance(router, Router):
    raise CannotStart(
        f"'router' in src/service/routes.py is a {type(router).__module__}.{type(router).__name__},"
        " Django Ninja needs a Router: port your routes, README.md shows how they look"
    )
api.add_router("", router)


@api.exception_handler(ServiceError)
def service_error(request: HttpRequest, error: ServiceError) -> HttpResponse:
    return problem_response(request, error)


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, ServiceError):  # of the parser, whose errors Ninja makes its own
        return problem_response(request, error.__cause__)
    return problem_response(request, from_framework(error.status_code, error.message))


@api.exception_handler(ValidationError)
def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors = [(field_path(item["loc"]), item["msg"]) for item in error.errors[:LISTED_ERRORS]]
    return problem_response(request, InvalidValues(errors, len(error.errors)))


@api.exception_handler(Exception)
@api.exception_handler(Http404)  # of which Ninja has a handler of its own
def any_exception(request: HttpRequest, exception: Exception) -> HttpResponse:
    match exception:
        case Http404():
            by_a_route = str(exception) if request.resolver_match else ""
            return problem_response(request, from_framework(404, by_a_route))
        case PermissionDenied():
            return problem_response(request, from_framework(403, str(exception)))
        case SuspiciousOperation() | BadRequest():
            return problem_response(request, from_framework(400))
    return problem_response(request, from_exception(exception))


handler400 = handler403 = handler404 = any_exception  # for what Django itself raises


def problem_response(request: HttpRequest, error: ServiceError) -> HttpResponse:
    """Respond with a problem document (RFC 9457)."""
    status, headers, body = problem(error, get_context(request).request_id)
    return HttpResponse(body, status=status, headers=headers)


urlpatterns = [path("", api.urls)]  # Ninja takes no routes after this
_URLCONF: Any = sys.modules[__name__]
"""Not by its name, which Django would look up once for all modules that ever have it."""


class Handler(ASGIHandler):
    """Django's ASGI handler, without the signals at the start and the end of a request.

    Their receivers close the connections of a database, which this service does not have, and each
    costs a hop to another thread.
    """

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Refuse WebSockets, which Django does not know, in their handshake."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await super().__call__(scope, receive, send)  # type: ignore[arg-type]

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        async def send_lowercase(message: Mapping[str, Any]) -> None:
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            await send({**message, "headers": headers} if headers else message)

        message = await receive()  # with the whole body, which the front has read
        set_script_prefix(scope.get("root_path", ""))
        request, _ = self.create_request(scope, BytesIO(message["body"]))
        if request is None:
            raise Malformed("The query is not UTF-8.")
        request.urlconf = _URLCONF
        try:
            response = await self.get_response_async(request)
        finally:
            scope["route"] = request.resolver_match and request.resolver_match.route
            request.close()
        if isinstance(response, HttpResponseNotAllowed):
            response = problem_response(request, from_framework(405, headers=response.headers))
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        await self.send_response(response, send_lowercase)
        if response.streaming:
            response.close()


app: ASGIApp = Handler()


# What `service.interfaces.Framework` asks for, besides `app`.


def lifespan() -> AbstractAsyncContextManager[None]:
    """Do nothing: Django has no lifespan."""
    return nullcontext()


def openapi() -> dict[str, Any]:
    """Describe the routes of `service.routes`."""
    return api.get_openapi_schema(path_prefix="")


def has_route(path: str) -> bool:
    """Return whether there is a route at this path, whatever its methods."""
    try:
        return resolve(path, _URLCONF).url_name != "api-root"  # which Ninja adds, for a 404
    except Resolver404:
        return False


def route_template(scope: Scope) -> str | None:
    """Return the route that answered."""
    route = scope.get("route")
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"/{route}") if route else None
