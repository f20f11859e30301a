"""The FastAPI application: /predict, the routes of `service.routes`, and error responses.

`service.web.front` stands before it, with everything that does not depend on the framework.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.core.errors import ServiceError
from service.dependencies import PredictorDep
from service.ops.process import CannotStart
from service.predict import Instance, Prediction
from service.routes import router
from service.web.asgi import Scope
from service.web.errors import (
    LISTED_ERRORS,
    InternalError,
    InvalidValues,
    field_path,
    from_framework,
    problem,
)
from service.web.predict_schema import PredictRequest, PredictResponse

app = FastAPI(
    openapi_url=None,  # `service.web.openapi` adds the routes below to its own document
    redirect_slashes=False,
    responses={"default": {"description": "Problem"}},
    # `service.ops` has them. "tracing": True adds FastAPI's spans inside those of the service.
    telemetry={"tracing": False, "metrics": False, "logs": False},
)


@app.post("/predict", include_in_schema=False)
async def predict(
    request: PredictRequest[Instance], predictor: PredictorDep
) -> PredictResponse[Prediction]:
    """Return one prediction for each instance."""
    predictions = await predictor.predict(request.instances)
    return PredictResponse(predictions=predictions, model=predictor.model)


if not isinstance(router, APIRouter):
    raise CannotStart(
        f"'router' in src/service/routes.py is a {type(router).__module__}.{type(router).__name__},"
        " FastAPI needs an APIRouter: port your routes, README.md shows how they look"
    )
app.include_router(router)


@app.exception_handler(ServiceError)
async def service_error(request: Request, error: ServiceError) -> Response:
    return problem_response(request, error)


@app.exception_handler(HTTPException)
async def http_exception(request: Request, error: HTTPException) -> Response:
    return problem_response(request, from_framework(error.status_code, error.detail, error.headers))


@app.exception_handler(RequestValidationError)
async def validation_error(request: Request, error: RequestValidationError) -> Response:
    items = error.errors()
    errors = [(field_path(item["loc"]), item["msg"]) for item in items[:LISTED_ERRORS]]
    return problem_response(request, InvalidValues(errors, len(items)))


@app.exception_handler(Exception)
async def unexpected_error(request: Request, error: Exception) -> Response:
    return problem_response(request, InternalError())  # Starlette raises it again, to be logged


def problem_response(request: Request, error: ServiceError) -> Response:
    """Respond with a problem document (RFC 9457)."""
    status, headers, body = problem(error, request.state.context.request_id)
    return Response(body, status, headers)


# What `service.interfaces.Framework` asks for, besides `app`.


def lifespan() -> AbstractAsyncContextManager[Any]:
    """Run the lifespan of the application and of its routers."""
    return app.router.lifespan_context(app)


def openapi() -> dict[str, Any]:
    """Describe the routes of `service.routes`."""
    return app.openapi()


def has_route(path: str) -> bool:
    """Return whether there is a route at this path, whatever its methods."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    return any(route.matches(scope)[0] is not Match.NONE for route in app.router.routes)


def route_template(scope: Scope) -> str | None:
    """Return the route that answered, with the prefixes of its routers."""
    # Only FastAPI's own context knows the prefixes; there is no public way to ask for them.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return route.path_format if route else None
