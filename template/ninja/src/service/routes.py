"""Further routes of your own, behind the same keys and limits as the model's.

This file is yours: an update of the template never touches it. What you add appears in
/openapi.json and on /docs. A route looks like this:

    @router.get("/greetings/{name}", tags=["greetings"], summary="Greet someone")
    async def greet(request: HttpRequest, name: str) -> dict[str, str]:
        return {"greeting": f"Hello, {name}!"}
"""

from ninja import Router

router = Router()
