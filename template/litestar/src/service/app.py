"""The HTTP layer on Litestar: the typed endpoint, and the user's own `service.routes`.

`service.front` stands before it. It has checked the key and read the body, and it answers every
error: what goes wrong here is raised, the framework's own refusals as a `ServiceError`.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from litestar import Litestar, Request, Response, Router, post
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.params import JSONBody
from litestar.utils import normalize_path

from service import typed
from service.errors import InvalidValues, NotFound
from service.http import Receive, Scope, Send
from service.routing import own_router
from service.translation import from_http
from service.typed import PredictRequest, PredictResponse


class TypedRequest(Request[Any, Any, Any]):
    """A request whose JSON is validated as it is parsed."""

    async def json(self) -> PredictRequest:
        return typed.parse(await self.body(), self.scope["state"]["settings"])


class TypedResponse(Response[PredictResponse]):
    """A response that leaves its JSON to pydantic."""

    def render(self, content: PredictResponse, *_: Any) -> bytes:
        return content.model_dump_json().encode()


@post(
    typed.PATH,
    status_code=200,
    request_class=TypedRequest,
    response_class=TypedResponse,
    include_in_schema=False,
)
async def predict(data: JSONBody[PredictRequest], request: TypedRequest) -> PredictResponse:
    """Predict instances; `service.openapi` describes it, alike for every framework."""
    return await typed.predict(request.scope["state"]["engine"], data)


def refuse(_: Request[Any, Any, Any], error: HTTPException) -> NoReturn:
    raise from_http(error.status_code, error.detail, error.headers) from None


def refuse_values(_: Request[Any, Any, Any], error: ValidationException) -> NoReturn:
    errors: list[Any] = error.extra if isinstance(error.extra, list) else []
    raise InvalidValues(
        [(f"{item.get('source', 'body')}.{item['key']}", item["message"]) for item in errors]
    ) from None


def leave_to_front(_: Request[Any, Any, Any], error: Exception) -> NoReturn:
    raise error


router = own_router(Router)
application = Litestar(
    [predict, router],
    exception_handlers={
        HTTPException: refuse,
        ValidationException: refuse_values,
        500: leave_to_front,
    },
    logging_config=None,
    openapi_config=None,
    request_max_body_size=None,
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request to Litestar, which would find ``/predict`` at ``/predict/`` too."""
    if scope["path"] != normalize_path(scope["path"]):
        raise NotFound
    await application(scope, receive, send)  # type: ignore[arg-type]


def lifespan() -> AbstractAsyncContextManager[Any]:
    """Run the start-up and shut-down hooks of the application."""
    return application.lifespan()


def openapi() -> dict[str, Any]:
    """Describe the user's own routes, without the 400 that Litestar would answer itself."""
    config = OpenAPIConfig(title="", version="")
    described = Litestar([router], logging_config=None, openapi_config=config)
    document = described.openapi_schema.to_schema()
    for item in document.get("paths", {}).values():
        for operation in item.values():
            operation["responses"].pop("400", None)
    return document


def route_template(scope: Scope) -> str | None:
    """Name the route that was asked, None where there is none."""
    return scope.get("path_template")
