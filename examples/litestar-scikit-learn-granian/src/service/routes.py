"""Routes of your own, with the same API keys and limits as /predict.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @post("/best", summary="Find the clearest case")
    async def best(data: JSONBody[list[Instance]], predictor: PredictorDep) -> Prediction:
        predictions = await predictor.predict(data)
        return max(predictions, key=lambda each: max(each.probabilities.values()))

    router = Router("/", route_handlers=[best])

`service.dependencies` has `PredictorDep` for instances, and `EngineDep` for tensors; the parameters
must be called ``predictor`` and ``engine``. Middleware and exception handlers fit here, as
arguments of the router, or into ``app`` in `service.app`, which also takes a lifespan.
"""

from litestar import Router

router = Router("/", route_handlers=[])
