"""What handlers get from Litestar's dependency injection: the engine, predictions and the request.

    @post("/route")
    async def route(engine: EngineDep, context: ContextDep) -> ...:
        outputs = await engine.infer({"measurements": array}, context)

Litestar finds a dependency by the name of the parameter. A WebSocket and background work have no
request of their own: they leave the context out.
"""

from typing import TypeAlias

from litestar.di import NamedDependency, Provide
from litestar.types import Scope

from service.core.context import RequestContext
from service.core.engine import Engine
from service.core.predictor import Predictor
from service.predict import Instance, Prediction


async def get_engine(scope: Scope) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = scope["state"]["engine"]
    return engine


async def get_predictor(scope: Scope) -> Predictor[Instance, Prediction]:
    """Return the predictor: instances in, predictions out."""
    predictor: Predictor[Instance, Prediction] = scope["state"]["predictor"]
    return predictor


async def get_context(scope: Scope) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = scope["state"]["context"]
    return context


EngineDep: TypeAlias = NamedDependency[Engine]
PredictorDep: TypeAlias = NamedDependency[Predictor[Instance, Prediction]]
ContextDep: TypeAlias = NamedDependency[RequestContext]

dependencies = {
    "engine": Provide(get_engine),
    "predictor": Provide(get_predictor),
    "context": Provide(get_context),
}
