"""What FastAPI's dependency injection has for handlers: the engine and the context.

    async def route(engine: EngineDep, context: ContextDep) -> float:
        outputs = await engine.infer({"measurements": array}, context)

A WebSocket and background work use the engine without a context, so that each call has a timeout of
its own.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from service.core.engine import Engine
from service.core.request_context import RequestContext


async def get_engine(connection: HTTPConnection) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = connection.state.engine
    return engine


async def get_context(connection: HTTPConnection) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = connection.state.context
    return context


EngineDep = Annotated[Engine, Depends(get_engine)]
ContextDep = Annotated[RequestContext, Depends(get_context)]
