"""Routes of your own, with the API keys and limits of the service.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @router.post("/best", summary="Find the clearest case")
    async def best(rows: list[list[float]], engine: EngineDep, context: ContextDep) -> int:
        outputs = await engine.infer({"measurements": np.array(rows, np.float32)}, context)
        return int(outputs["probabilities"].max(axis=1).argmax())

`service.dependencies` has `EngineDep`, which takes tensors, and `ContextDep`.
Add middleware and exception handlers to ``app`` in `service.app`; a lifespan fits both there and
here, as ``APIRouter(lifespan=…)``.
"""

from fastapi import APIRouter

router = APIRouter()
