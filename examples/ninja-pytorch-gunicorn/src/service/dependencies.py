"""What handlers get by a function each: the predictor, the engine and the context.

    async def route(request: HttpRequest) -> Prediction:
        predictions = await get_predictor(request).predict([instance])

    async def route(request: HttpRequest) -> float:
        outputs = await get_engine(request).infer({"measurements": array}, get_context(request))

Django Ninja has no dependency injection.
"""

from typing import Any

from django.http import HttpRequest

from service.core.engine import Engine
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.predict import Instance, Prediction


def get_engine(request: HttpRequest) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = _state(request)["engine"]
    return engine


def get_predictor(request: HttpRequest) -> Predictor[Instance, Prediction]:
    """Return the predictor for this request: instances in, predictions out."""
    predictor: Predictor[Instance, Prediction] = _state(request)["predictor"]
    return predictor.with_context(get_context(request))


def get_context(request: HttpRequest) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = _state(request)["context"]
    return context


def _state(request: Any) -> dict[str, Any]:
    """Return the state that `service.web.front` put into the ASGI scope of the request."""
    state: dict[str, Any] = request.scope["state"]
    return state
