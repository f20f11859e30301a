"""Routes of your own, with the same API keys and limits as /predict.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @router.post("/best", summary="Find the clearest case")
    async def best(request: HttpRequest, instances: list[Instance]) -> Prediction:
        predictions = await get_predictor(request).predict(instances)
        return max(predictions, key=lambda each: max(each.probabilities.values()))

`service.dependencies` has `get_predictor` for instances, and `get_engine` for tensors. Django's
middleware and Ninja's exception handlers fit into `service.app`.
"""

from ninja import Router

router = Router()
