"""What handlers get from FastAPI's dependency injection: the engine, predictions and the request.

    async def route(engine: EngineDep, context: ContextDep) -> ...:
        outputs = await engine.infer({"measurements": array}, context)

A WebSocket and background work have no request of their own: they leave the context out.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from service.core.context import RequestContext
from service.core.engine import Engine
from service.core.predictor import Predictor
from service.predict import Instance, Prediction


async def get_engine(connection: HTTPConnection) -> Engine:
    """Return the engine: tensors in, tensors out."""
    engine: Engine = connection.state.engine
    return engine


async def get_predictor(connection: HTTPConnection) -> Predictor[Instance, Prediction]:
    """Return the predictor: instances in, predictions out."""
    predictor: Predictor[Instance, Prediction] = connection.state.predictor
    return predictor


async def get_context(connection: HTTPConnection) -> RequestContext:
    """Return the context of the request: its deadline, its ids, and whether it is cancelled."""
    context: RequestContext = connection.state.context
    return context


EngineDep = Annotated[Engine, Depends(get_engine)]
PredictorDep = Annotated[Predictor[Instance, Prediction], Depends(get_predictor)]
ContextDep = Annotated[RequestContext, Depends(get_context)]
