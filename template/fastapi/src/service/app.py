"""The HTTP layer on FastAPI: the typed endpoint, and the user's own `service.routes`.

`service.front` stands before it. It has checked the key and read the body, and it answers every
error: what goes wrong here is raised, the framework's own refusals as a `ServiceError`.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from service import typed
from service.errors import InvalidValues, Malformed
from service.http import Receive, Scope, Send
from service.routing import own_router
from service.translation import from_http
from service.typed import PredictRequest, PredictResponse

app = FastAPI(
    openapi_url=None,
    redirect_slashes=False,
    responses={"default": {"description": "Problem"}},
    telemetry={"tracing": False, "metrics": False, "logs": False},  # `service.telemetry` has them
)


class TypedRoute(APIRoute):
    """A route that validates JSON as it parses it, and gives its handler nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            body = typed.parse(await request.body(), request.state.settings)
            response: PredictResponse = await self.endpoint(body, request)
            return Response(response.model_dump_json(), media_type="application/json")

        return handle


app.router.route_class = TypedRoute


@app.post(typed.PATH, include_in_schema=False)
async def predict(body: PredictRequest, request: Request) -> PredictResponse:
    """Predict instances; `service.openapi` describes it, alike for every framework."""
    return await typed.predict(request.state.engine, body)


app.include_router(own_router(APIRouter))


@app.exception_handler(HTTPException)
async def refuse(_: Request, error: HTTPException) -> Response:
    raise from_http(error.status_code, error.detail, error.headers) from None


@app.exception_handler(RequestValidationError)
async def refuse_values(_: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        raise Malformed("The body is not valid JSON.") from None
    raise InvalidValues(
        [(".".join(str(part) for part in item["loc"]), item["msg"]) for item in errors]
    ) from None


class Unanswered(Response):
    """Sends nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


@app.exception_handler(Exception)
async def leave_to_front(_: Request, error: Exception) -> Response:
    """Answer nothing: FastAPI raises the error again, up to the front."""
    return Unanswered()


def lifespan() -> AbstractAsyncContextManager[Any]:
    """Run the start-up and shut-down hooks of the application."""
    return app.router.lifespan_context(app)


def openapi() -> dict[str, Any]:
    """Describe the user's own routes."""
    return app.openapi()


def route_template(scope: Scope) -> str | None:
    """Name the route that was asked, None where there is none."""
    # The context knows the prefixes of nested routers, the route itself does not.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return route.path_format if route else None
