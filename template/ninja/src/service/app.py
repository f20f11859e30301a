"""The HTTP layer on Django Ninja: the typed endpoint, and the user's own `service.routes`.

`service.front` stands before it. It has checked the key and read the body, and it answers every
error: what goes wrong here is raised, the framework's own refusals as a `ServiceError`.
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import path, set_script_prefix
from pydantic import BaseModel

from service import typed
from service.errors import InvalidValues, Malformed, ServiceError
from service.http import ASGIApp, Scope
from service.routing import own_router
from service.translation import from_http
from service.typed import PredictRequest, PredictResponse

# Bodies and errors are the front's: Django must neither limit the ones nor answer the others.
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEBUG_PROPAGATE_EXCEPTIONS=True,
    FILE_UPLOAD_MAX_MEMORY_SIZE=sys.maxsize,
    ROOT_URLCONF=__name__,
    USE_TZ=True,
)
logging.getLogger("django.request").setLevel(logging.CRITICAL)

# Ninja reads Django's settings as it is imported.
from ninja import NinjaAPI, Router  # noqa: E402
from ninja.errors import HttpError, ValidationError  # noqa: E402
from ninja.parser import Parser  # noqa: E402
from ninja.renderers import JSONRenderer  # noqa: E402


class TypedParser(Parser):
    """Validates the JSON of `predict` as it is parsed."""

    def parse_body(self, request: HttpRequest) -> Any:
        if isinstance(request, ASGIRequest) and request.path == typed.PATH:
            return typed.parse(request.body, request.scope["state"]["settings"])
        return super().parse_body(request)


class ModelRenderer(JSONRenderer):
    """Leaves the JSON of a pydantic model to pydantic."""

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> Any:
        if isinstance(data, BaseModel):
            return data.model_dump_json().encode()
        return super().render(request, data, response_status=response_status)


class API(NinjaAPI):
    """Ninja's API without the charset behind its content type."""

    def get_content_type(self) -> str:
        return "application/json"


api = API(openapi_url=None, docs_url=None, parser=TypedParser(), renderer=ModelRenderer())


@api.post(typed.PATH, include_in_schema=False)
async def predict(request: ASGIRequest, body: PredictRequest) -> PredictResponse:
    """Predict instances; `service.openapi` describes it, alike for every framework."""
    return await typed.predict(request.scope["state"]["engine"], body)


api.add_router("", own_router(Router))
urlpatterns = [path("", api.urls)]


class Refused(HttpResponse):
    """Carries an error through Django to `Handler`; raised, it would cost hops to a thread."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def refuse(request: HttpRequest, exception: Exception) -> HttpResponse:
    match exception:
        case HttpError(__cause__=ServiceError() as cause):
            error: Exception = cause
        case HttpError():
            error = from_http(exception.status_code, exception.message)
        case ValidationError(errors=errors):
            error = InvalidValues(
                [(".".join(str(part) for part in item["loc"]), item["msg"]) for item in errors]
            )
        case Http404():
            route = request.resolver_match
            by_a_route = route is not None and route.url_name != "api-root"
            error = from_http(404, str(exception) if by_a_route else "")
        case PermissionDenied():
            error = from_http(403, str(exception))
        case SuspiciousOperation() | BadRequest():
            error = from_http(400)
        case _:
            error = exception
    return Refused(error)


for kind in (Exception, HttpError, ValidationError, Http404):
    api.add_exception_handler(kind, refuse)  # type: ignore[arg-type]
handler404 = refuse


class Handler(ASGIHandler):
    """Django's handler without its request signals and the thread hops that they cost.

    They would close the connections of a database, and there is none.
    """

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        async def send_lowercase(message: Mapping[str, Any]) -> None:
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            await send({**message, "headers": headers} if headers else message)

        message = await receive()  # with the whole body, which the front has read
        set_script_prefix(scope.get("root_path", ""))
        request, _ = self.create_request(scope, BytesIO(message["body"]))
        if request is None:
            raise Malformed("The query is not UTF-8.")
        try:
            response = await self.get_response_async(request)
        finally:
            scope["route"] = request.resolver_match and request.resolver_match.route
            request.close()
        if isinstance(response, Refused):
            raise response.error
        if isinstance(response, HttpResponseNotAllowed):
            raise from_http(405, headers=response.headers)
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        await self.send_response(response, send_lowercase)


app: ASGIApp = Handler()  # type: ignore[assignment]


def lifespan() -> AbstractAsyncContextManager[None]:
    """Run nothing: Django has no hooks for start-up and shut-down."""
    return nullcontext()


def openapi() -> dict[str, Any]:
    """Describe the user's own routes."""
    return api.get_openapi_schema(path_prefix="")


def route_template(scope: Scope) -> str | None:
    """Name the route that was asked, None where there is none."""
    route = scope.get("route")
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"/{route}") if route else None
