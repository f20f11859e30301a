"""Own routes of another framework are refused in a line, whichever frameworks are installed."""

import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

import service
from service.process import CannotStart
from service.routing import own_router

ROUTERS = {
    "FastAPI": ("fastapi", "from fastapi import APIRouter\n\nrouter = APIRouter()\n"),
    "Litestar": ("litestar", "from litestar import Router\n\nrouter = Router('/', [])\n"),
    "Django Ninja": ("ninja", "from ninja import Router\n\nrouter = Router()\n"),
}
WriteRoutes = Callable[[str], None]


def router_of(framework: str) -> type:
    """Make a class of routers as if a framework had it."""
    package, _ = ROUTERS[framework]
    return type("Router", (), {"__module__": f"{package}.router"})


@pytest.fixture
def write_routes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WriteRoutes:
    """Put another file in the place of `service.routes`."""

    def write(source: str) -> None:
        (tmp_path / "routes.py").write_text(source)
        monkeypatch.setattr(service, "__path__", [str(tmp_path)])
        monkeypatch.delitem(sys.modules, "service.routes", raising=False)

    return write


def test_a_router_of_the_right_kind_is_taken(write_routes: WriteRoutes) -> None:
    write_routes("router = ['a route']\n")
    assert own_router(list) == ["a route"]


@pytest.mark.parametrize(("theirs", "ours"), list(permutations(ROUTERS, 2)))
def test_a_router_of_another_framework_is_refused(
    write_routes: WriteRoutes, theirs: str, ours: str
) -> None:
    write_routes(ROUTERS[theirs][1])
    with pytest.raises(CannotStart) as refusal:
        own_router(router_of(ours))
    message = str(refusal.value)
    assert f"routes.py is written for {theirs}, this service runs on {ours}: port" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_package\n", ModuleNotFoundError),
        ("# from fastapi import it\nraise ValueError('wrong')\n", ValueError),
        ("", AttributeError),
    ],
)
def test_other_errors_are_left_as_they_are(
    write_routes: WriteRoutes, source: str, error: type[Exception]
) -> None:
    write_routes(source)
    with pytest.raises(error) as raised:
        own_router(router_of("Django Ninja"))
    assert not isinstance(raised.value, CannotStart)


def test_something_else_than_a_router_is_refused(write_routes: WriteRoutes) -> None:
    write_routes("router = []\n")
    with pytest.raises(CannotStart, match=r"'router' in src/service/routes\.py is no Router"):
        own_router(router_of("FastAPI"))
