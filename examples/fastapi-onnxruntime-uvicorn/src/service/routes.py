"""Routes of your own, with the same API keys and limits as /predict.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @router.post("/best", summary="Find the clearest case")
    async def best(instances: list[Instance], predictor: PredictorDep) -> Prediction:
        predictions = await predictor.predict(instances)
        return max(predictions, key=lambda each: max(each.probabilities.values()))

`service.dependencies` has `PredictorDep` for instances, and `EngineDep` for tensors.
Add middleware and exception handlers to ``app`` in `service.app`; a lifespan fits both there and
here, as ``APIRouter(lifespan=…)``.
"""

from fastapi import APIRouter

router = APIRouter()
