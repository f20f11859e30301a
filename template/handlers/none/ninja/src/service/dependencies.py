"""What handlers get by a function each: the engine and the context.

    async def route(request: HttpRequest) -> float:
        outputs = await get_engine(request).infer({"measurements": array}, get_context(request))

Django Ninja has no dependency injection.
"""

from typing import Any

from django.http import HttpRequest

from service.core.engine import Engine
from service.core.request_context import RequestContext


def get_engine(request: HttpRequest) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = _state(request)["engine"]
    return engine


def get_context(request: HttpRequest) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = _state(request)["context"]
    return context


def _state(request: Any) -> dict[str, Any]:
    """Return the state that `service.web.front` put into the ASGI scope of the request."""
    state: dict[str, Any] = request.scope["state"]
    return state
