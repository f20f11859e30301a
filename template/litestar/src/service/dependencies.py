"""What handlers get from Litestar's dependency injection: the engine, predictions and the request.

    @post("/route")
    async def route(engine: Engine, context: RequestContext) -> ...:
        outputs = await engine.infer({"measurements": array}, context)

A WebSocket and background work have no request of their own: they leave the context out.
"""

from typing import TypeAlias

from litestar.di import Provide
from litestar.types import Scope

from service.core import predictor
from service.core.context import RequestContext
from service.core.engine import Engine
from service.predict import Instance, Prediction

Predictor: TypeAlias = predictor.Predictor[Instance, Prediction]


async def get_engine(scope: Scope) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = scope["state"]["engine"]
    return engine


async def get_predictor(scope: Scope) -> Predictor:
    """Return the predictor: instances in, predictions out."""
    found: Predictor = scope["state"]["predictor"]
    return found


async def get_context(scope: Scope) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = scope["state"]["context"]
    return context


dependencies = {
    "engine": Provide(get_engine),
    "predictor": Provide(get_predictor),
    "context": Provide(get_context),
}
"""By the names of the parameters that handlers give them."""
