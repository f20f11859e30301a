"""Routes of your own, with the API keys and limits of the service.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @router.post("/best", summary="Find the clearest case")
    async def best(request: HttpRequest, rows: list[list[float]]) -> int:
        tensors = {"measurements": np.array(rows, np.float32)}
        outputs = await get_engine(request).infer(tensors, get_context(request))
        return int(outputs["probabilities"].max(axis=1).argmax())

`service.dependencies` has `get_engine`, which takes tensors, and `get_context`. Django's middleware
and Ninja's exception handlers fit into `service.app`.
"""

from ninja import Router

router = Router()
