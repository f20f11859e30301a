"""What each framework documents works in an emitted service as its documentation says.

For each framework ``native/`` has an owner's routes, what the owner adds to the end of ``app.py``,
and the tests; `_EDITS` are the owner's further edits of ``app.py``. A feature that a framework does
not have is missing in its folder, and the emitted README says so.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.verify.suites import FOREIGN_PLUGINS
from inferplate_tools.workbench import Workbench

NATIVE = Path(__file__).parent / "native"
_EDITS: Final = {
    "fastapi": {
        "import APIRouter, FastAPI,": "import APIRouter, Depends, FastAPI, Header, HTTPException,",
        "from service.routes import router": "from service.routes import OutOfStock, router",
        '@app.post("/predict", include_in_schema=False)': """\
async def has_plan(x_plan: Annotated[str, Header()] = "free") -> None:
    if x_plan == "none":
        raise HTTPException(402, "no plan")


@app.post("/predict", include_in_schema=False, dependencies=[Depends(has_plan)])""",
        "from typing import Any": "from typing import Annotated, Any",
        "from starlette.exceptions import HTTPException\n": "",
    },
    "litestar": {
        "from contextlib import ": "from collections.abc import AsyncIterator\n"
        "from contextlib import asynccontextmanager, ",
        "import Litestar, Request, Response, Router, post": "import Litestar, Request, Response, "
        "Router, get, post",
        "from litestar.exceptions import (": "from litestar.connection import "
        "ASGIConnection\nfrom litestar.exceptions import (",
        '@post("/predict", status_code=200, include_in_schema=False)': """\
def has_key(connection: ASGIConnection, _: object) -> None:
    if connection.headers.get("x-plan") == "stolen":
        raise HTTPException("no key", status_code=403)


async def paid_plan(x_plan: Annotated[str, HeaderParameter(name="x-plan")] = "free") -> str:
    if x_plan == "none":
        raise HTTPException("no plan", status_code=402)
    return x_plan


@get("/in-app")
async def in_app() -> str:
    return "in app.py"


@asynccontextmanager
async def greet(app: Litestar) -> AsyncIterator[None]:
    app.state.greeting = "hello"
    yield


class LetterMiddleware(ASGIMiddleware):
    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
        async def send_counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                letters = str(len(scope["path"])).encode()
                message["headers"] = [*message["headers"], (b"x-letters", letters)]
            await send(message)

        await next_app(scope, receive, send_counted)


@post(
    "/predict",
    status_code=200,
    include_in_schema=False,
    guards=[has_key],
    dependencies={"plan": Provide(paid_plan)},
)""",
        "predictor: PredictorDep\n": "predictor: PredictorDep, plan: NamedDependency[str]\n",
        "from litestar.params import JSONBody": "from litestar.di import NamedDependency, Provide\n"
        "from litestar.params import HeaderParameter, JSONBody",
        "from typing import Any, Final": "from typing import Annotated, Any, Final",
        "from litestar.openapi import": "from litestar.middleware import ASGIMiddleware\n"
        "from litestar.openapi import",
        "= [predict, router]": "= [predict, in_app, router]",
        "    logging_config=None,  # `service": "    lifespan=[greet],\n"
        "    middleware=[LetterMiddleware()],\n    logging_config=None,  # `service",
    },
    "ninja": {
        "from service.routes import router": "from service.routes import OutOfStock, router",
        "        ROOT_URLCONF=__name__,": """\
        MIDDLEWARE=["service.app.count_letters"],
        ROOT_URLCONF=__name__,""",
        "urlpatterns = [": """\
@api.get("/in-app")
async def in_app(request: HttpRequest) -> str:
    return "in app.py"


@api.exception_handler(OutOfStock)
def out_of_stock(request: HttpRequest, error: OutOfStock) -> HttpResponse:
    return HttpResponse(f"sorry: {error}", status=418, content_type="text/plain")


urlpatterns = [""",
        "class Handler(ASGIHandler):": """\
@async_only_middleware
def count_letters(get_response: Any) -> Any:
    async def middleware(request: HttpRequest) -> HttpResponse:
        if request.path == "/forbidden":
            raise PermissionDenied("not here")
        if request.path == "/broken":
            raise RuntimeError("a secret that must not leave the service")
        response = await get_response(request)
        response["x-letters"] = str(len(request.path))
        return response

    return middleware


class Handler(ASGIHandler):""",
        "resolve, set_script_prefix\n": "resolve, set_script_prefix\n"
        "from django.utils.decorators import async_only_middleware\n",
    },
}


@pytest.mark.parametrize("framework", sorted(_EDITS))
def test_native_features(
    framework: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant(framework, "onnxruntime", "uvicorn"))
    native = NATIVE / framework
    shutil.copy(native / "routes.py", project / "src/service")
    shutil.copy(NATIVE / "orders.py", project / "src/service")
    (project / "native").mkdir()
    shutil.copy(native / "test_native.py", project / "native")
    app = project / "src/service/app.py"
    text = app.read_text(encoding="utf-8")
    for old, new in _EDITS[framework].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    end = native / "app_end.py"
    if end.exists():
        text += "\n\n" + end.read_text(encoding="utf-8")
    app.write_text(text, encoding="utf-8")
    disabled = [part for plugin in FOREIGN_PLUGINS for part in ("-p", f"no:{plugin}")]
    command = [bench.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *disabled, "native"]
    bench.run(command, project, timeout=120)
