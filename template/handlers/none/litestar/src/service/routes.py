"""Routes of your own, with the API keys and limits of the service.

This file is yours: an update of the template never touches it. Your routes appear in /openapi.json
and on /docs. They look like this:

    @post("/best", summary="Find the clearest case")
    async def best(
        data: JSONBody[list[list[float]]], engine: EngineDep, context: ContextDep
    ) -> int:
        outputs = await engine.infer({"measurements": np.array(data, np.float32)}, context)
        return int(outputs["probabilities"].max(axis=1).argmax())

    router = Router("/", route_handlers=[best])

`service.dependencies` has `EngineDep`, which takes tensors, and `ContextDep`; the parameters must
be called ``engine`` and ``context``. Middleware and exception handlers fit here, as arguments of
the router, or into ``app`` in `service.app`, which also takes a lifespan.
"""

from litestar import Router

router = Router("/", route_handlers=[])
