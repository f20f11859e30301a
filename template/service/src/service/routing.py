"""The user's own routes: written for one framework, they stay as they are when it is switched."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeVar

from service.process import CannotStart

_ROUTES: Final = "service.routes"
_FRAMEWORKS: Final = {
    "django": "Django Ninja",
    "fastapi": "FastAPI",
    "litestar": "Litestar",
    "ninja": "Django Ninja",
}
"""The frameworks by the packages that they consist of."""
_IMPORTED: Final = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)

R = TypeVar("R")


def own_router(kind: type[R]) -> R:
    """Return the router of `service.routes`, of the kind that the service's framework has.

    Raises:
        CannotStart: it is none, or is written for another framework.
    """
    _check_framework(kind)
    router = import_module(_ROUTES).router
    if not isinstance(router, kind):
        raise CannotStart(f"'router' in src/service/routes.py is no {kind.__name__}")
    return router


def _check_framework(kind: type) -> None:
    """Look at what the file imports: another framework need not be installed, nor be set up."""
    ours = _FRAMEWORKS.get(kind.__module__.partition(".")[0])
    spec = find_spec(_ROUTES)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    imported = {_FRAMEWORKS[name] for name in _IMPORTED.findall(source) if name in _FRAMEWORKS}
    if imported and ours not in imported:
        raise CannotStart(
            f"src/service/routes.py is written for {min(imported)}, this service runs on {ours}: "
            "port its routes, README.md shows how they look now"
        )
