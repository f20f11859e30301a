"""The Litestar application: the routes of `service.routes`, and error responses.

`service.web.front` stands before it, with everything that does not depend on the framework.
"""

import re
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from litestar import Litestar, Request, Response, Router
from litestar.enums import ParamType
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.openapi import OpenAPIConfig
from litestar.plugins.pydantic import PydanticPlugin
from litestar.types import ControllerRouterHandler
from litestar.utils import normalize_path

from service.core.errors import ServiceError
from service.dependencies import dependencies
from service.ops.process import CannotStart
from service.routes import router
from service.web.asgi import Scope
from service.web.errors import (
    LISTED_ERRORS,
    InvalidValues,
    UnsupportedMediaType,
    from_exception,
    from_framework,
    problem,
)
from service.web.strict_json import is_json

_MISSING_PARAMETER: Final = re.compile(r"Missing required (\w+) parameter '(.+)' for path ")

AnyRequest = Request[Any, Any, Any]


class JSONRequest(AnyRequest):
    """Reads only what says that it is JSON: no other has been checked by `service.web.front`."""

    async def json(self) -> Any:
        """Parse the body.

        Raises:
            UnsupportedMediaType: its content type is not JSON.
        """
        if not is_json(self.headers.get("content-type", "").encode()):
            raise UnsupportedMediaType("The body must be application/json.")
        return await super().json()


def service_error(request: AnyRequest, error: ServiceError) -> Response[bytes]:
    return problem_response(request, error)


def http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    status, errors = error.status_code, error.extra or None
    return problem_response(request, from_framework(status, error.detail, error.headers, errors))


def validation_error(request: AnyRequest, error: ValidationException) -> Response[bytes]:
    items: list[Any] = error.extra if isinstance(error.extra, list) else []
    errors = [(_field(item), item["message"]) for item in items[:LISTED_ERRORS]]
    return problem_response(request, InvalidValues(errors or [_missing(error.detail)], len(items)))


def unexpected_error(request: AnyRequest, error: Exception) -> Response[bytes]:
    return problem_response(request, from_exception(error))


def problem_response(request: AnyRequest, error: ServiceError) -> Response[bytes]:
    """Respond with a problem document (RFC 9457)."""
    status, headers, body = problem(error, request.scope["state"]["context"].request_id)
    return Response(body, status_code=status, headers=headers, media_type=headers["content-type"])


def _field(item: dict[str, Any]) -> str:
    """Return the path of a wrong value. Values of the body are named from its top."""
    key, source = item.get("key", ""), item.get("source", "body")
    if source == "body":
        return "" if key == "data" else key
    return f"{ParamType(source).value}.{key}"


def _missing(detail: str) -> tuple[str, str]:
    """Return the path of a missing parameter, and the reason; Litestar has them in a text only."""
    found = _MISSING_PARAMETER.match(detail)
    return (f"{found[1]}.{found[2]}", "Field required") if found else ("", detail)


if not isinstance(router, Router):
    raise CannotStart(
        f"'router' in src/service/routes.py is a {type(router).__module__}.{type(router).__name__},"
        " Litestar needs a Router: port your routes, README.md shows how they look"
    )
# None leaves it to each field whether it is strict; True and False would override them all.
pydantic = PydanticPlugin(prefer_alias=True, validate_strict=None)  # type: ignore[arg-type]
route_handlers: list[ControllerRouterHandler] = [router]

app = Litestar(
    route_handlers,
    dependencies=dependencies,
    exception_handlers={
        ServiceError: service_error,
        HTTPException: http_exception,
        ValidationException: validation_error,
        Exception: unexpected_error,
    },
    logging_config=None,  # `service.ops.logs` configures logging
    openapi_config=None,  # `service.web.openapi` adds the routes to its own document
    plugins=[pydantic],
    request_class=JSONRequest,
    request_max_body_size=None,  # `service.web.front` has limited it
)


# What `service.interfaces.Framework` asks for, besides `app`.


def lifespan() -> AbstractAsyncContextManager[Any]:
    """Run the lifespan and the hooks of the application."""
    return app.lifespan()


def openapi() -> dict[str, Any]:
    """Describe the routes of `service.routes`, without the 400 that Litestar does not answer here.

    An application of its own describes them: the one that serves has none of Litestar's pages.
    """
    described = Litestar(
        route_handlers,
        dependencies=dependencies,
        logging_config=None,
        openapi_config=OpenAPIConfig(title="", version=""),
        plugins=[pydantic],
    )
    document = described.openapi_schema.to_schema()
    for item in document.get("paths", {}).values():
        for operation in item.values():
            operation["responses"].pop("400", None)
    return document


def has_route(path: str) -> bool:
    """Return whether there is a route at this path, whatever its methods."""
    try:
        app.asgi_router.handle_routing(path=normalize_path(path), method="GET")
    except NotFoundException:
        return False
    except MethodNotAllowedException:
        return True
    return True


def route_template(scope: Scope) -> str | None:
    """Return the route that answered."""
    return scope.get("path_template")
