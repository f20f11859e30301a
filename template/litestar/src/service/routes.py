"""Further routes of your own, behind the same keys and limits as the model's.

This file is yours: an update of the template never touches it. What you add appears in
/openapi.json and on /docs. A route looks like this:

    @get("/greetings/{name:str}", tags=["greetings"], summary="Greet someone")
    async def greet(name: str) -> dict[str, str]:
        return {"greeting": f"Hello, {name}!"}

    router = Router("/", route_handlers=[greet])
"""

from litestar import Router

router = Router("/", route_handlers=[])
