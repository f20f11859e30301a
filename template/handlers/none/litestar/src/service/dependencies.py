"""What Litestar's dependency injection has for handlers: the engine and the context.

    async def route(engine: EngineDep, context: ContextDep) -> float:
        outputs = await engine.infer({"measurements": array}, context)

Litestar finds a dependency by the name of the parameter. A WebSocket and background work use the
engine without a context, so that each call has a timeout of its own.
"""

from typing import TypeAlias

from litestar.di import NamedDependency, Provide
from litestar.types import Scope

from service.core.engine import Engine
from service.core.request_context import RequestContext


async def get_engine(scope: Scope) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = scope["state"]["engine"]
    return engine


async def get_context(scope: Scope) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = scope["state"]["context"]
    return context


EngineDep: TypeAlias = NamedDependency[Engine]
ContextDep: TypeAlias = NamedDependency[RequestContext]

dependencies = {
    "engine": Provide(get_engine),
    "context": Provide(get_context),
}
