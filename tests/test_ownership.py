"""What is the user's own has a home that no update touches, and works in every framework."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import cycle, permutations
from pathlib import Path

import copier
import pytest
from conftest import ALL_VARIANTS
from history import (
    YOURS_BELOW,
    Edit,
    MakeProject,
    commit,
    copier_update,
    edit,
    history,
    last,
    new,
    of,
    release,
    save,
    swap,
    update,
)

from inferplate.commands.status import status
from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.ownership import users_patterns
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import ask
from inferplate_tools.errors import CheckFailed
from inferplate_tools.service import Service, free_port
from inferplate_tools.workbench import Workbench

NEEDS = {
    "fastapi": "FastAPI needs an APIRouter",
    "litestar": "Litestar needs a Router",
    "ninja": "Django Ninja needs a Router",
}
ROUTERS = {
    "fastapi": "fastapi.routing.APIRouter",
    "litestar": "litestar.router.Router",
}
SERVERS = list(dict.fromkeys(variant.server for variant in ALL_VARIANTS))
ROUTES = {
    "fastapi": """
from fastapi import APIRouter

from service.settings import own_settings

router = APIRouter()


@router.get("/greetings/{name}")
async def greet(name: str) -> dict[str, str]:
    return {"greeting": f"{own_settings().greeting}, {name}!"}
""",
    "litestar": """
from litestar import Router, get

from service.settings import own_settings


@get("/greetings/{name:str}")
async def greet(name: str) -> dict[str, str]:
    return {"greeting": f"{own_settings().greeting}, {name}!"}


router = Router("/", route_handlers=[greet])
""",
    "ninja": """
from django.http import HttpRequest
from ninja import Router

from service.settings import own_settings

router = Router()


@router.get("/greetings/{name}")
async def greet(request: HttpRequest, name: str) -> dict[str, str]:
    return {"greeting": f"{own_settings().greeting}, {name}!"}
""",
}
GREETING = '    greeting: str = Field(default="Hello", min_length=3, description="How to greet")'


def add_setting(text: str) -> str:
    """Follow the example in the file's docstring."""
    with_import = text.replace(
        "from pydantic_settings", "from pydantic import Field\nfrom pydantic_settings"
    )
    return with_import.replace("\n\n\n@cache", f"\n\n{GREETING}\n\n\n@cache")


@pytest.mark.parametrize("runtime", ["onnxruntime", "python"])
def test_the_users_files_are_named_alike_everywhere(
    runtime: str, make_project: MakeProject
) -> None:
    project = Project.read(make_project(Variant("fastapi", runtime, "uvicorn")))
    patterns = users_patterns(template_root(), project.answers)
    readme = (project.root / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Yours, and.*?(?=^## )", readme, re.MULTILINE | re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in rows))
    assert ("src/service/runtime.py" in named) == (runtime == "python")
    assert {name.strip("/") for name in named} == {pattern.strip("/") for pattern in patterns}
    found = status(project).yours
    assert found is not None
    assert set(found) == {name for name in named if not name.endswith("/")}


@pytest.mark.parametrize("runtime", ["onnxruntime", "python"])
@pytest.mark.parametrize("copy", ["copy", "recopy"])
def test_who_copies_again_keeps_the_users_files(
    copy: str, runtime: str, template: Path, make_project: MakeProject
) -> None:
    project = make_project(Variant("fastapi", runtime, "uvicorn"))
    yours = status(Project.read(project)).yours
    assert yours
    for name in (*yours, "Makefile"):
        (project / name).write_text("mine\n", encoding="utf-8")
    (project / "models").mkdir()
    (project / "models/own.onnx").write_text("mine\n", encoding="utf-8")
    if copy == "recopy":
        copier.run_recopy(project, defaults=True, overwrite=True, quiet=True, skip_answered=True)
    else:
        answers = {"runtime": runtime}
        copier.run_copy(str(template), project, answers, defaults=True, overwrite=True, quiet=True)
    found = {name: (project / name).read_text(encoding="utf-8") for name in yours}
    assert found == dict.fromkeys(yours, "mine\n")
    assert (project / "models/own.onnx").exists()
    assert (project / "Makefile").read_text(encoding="utf-8") != "mine\n"


OWN_LINES: dict[str, Edit] = {
    "pyproject.toml": swap(f"{YOURS_BELOW}\n", f'{YOURS_BELOW}\n  "own-dependency>=1",\n'),
    "README.md": last("\nMy notes."),
}
OVERRIDES = """
[[tool.mypy.overrides]]
module = ["catboost.*", "joblib.*", "pandas.*", "skops.*"]
ignore_missing_imports = true
"""
UNTYPED = '''"""Models of libraries without types."""

from pathlib import Path
from typing import Any

import catboost
import joblib
import pandas as pd
import skops.io


def load_all(folder: Path) -> list[Any]:
    """Load models, and predict."""
    boosted = catboost.CatBoostClassifier().load_model(str(folder / "model.cbm"))
    frame = pd.DataFrame({"a": [1.0], "b": pd.Categorical(["x"])})
    dumped = [joblib.load(folder / "m.joblib"), skops.io.load(folder / "m.skops")]
    return [boosted.predict(frame), *dumped]
'''


@pytest.mark.parametrize("by_copier", [False, True], ids=["inferplate", "copier"])
def test_own_dependencies_and_notes_merge_though_everything_beside_them_changes(
    by_copier: bool, make_project: MakeProject, bench: Workbench, tmp_path: Path
) -> None:
    template = Path(shutil.copytree(history(bench), tmp_path / "template"))
    edits = {
        "pyproject.toml.jinja": swap(
            "requirements | unique %}", "requirements | unique | reverse %}"
        ),
        "README.md.jinja": swap("models/              yours", "models/              ever yours"),
    }
    release(template, "v0.4.0", {f"template/service/{name}": made for name, made in edits.items()})
    project = of(template, make_project())
    save(project, OWN_LINES)
    switch = {"server": "granian", "repository_url": "https://example.org/own"}
    if by_copier:
        copier_update(project, data=switch)
    else:
        assert update(project, **switch, to="v0.4.0").conflicts == {}
    fresh = tmp_path / "fresh"
    copier.run_copy(str(template), fresh, data=switch, defaults=True, quiet=True)
    edit(fresh, OWN_LINES)
    for name in OWN_LINES:
        assert (project / name).read_text(encoding="utf-8") == (fresh / name).read_text(
            encoding="utf-8"
        )
    assert (fresh / "pyproject.toml").read_text(encoding="utf-8").count("own-dependency") == 3


def test_own_overrides_stay_through_a_switch_of_everything_and_libraries_without_types_pass(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project(Variant("fastapi", "python", "uvicorn"))
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert OVERRIDES.strip() in readme
    (project / "src/service/own.py").write_text(UNTYPED, encoding="utf-8")
    with bench.mypy("src") as types:
        with pytest.raises(CheckFailed, match=r"Found \d+ errors"):
            bench.run(types, project, timeout=300)
        save(project, {"pyproject.toml": last(OVERRIDES.rstrip())})
        bench.run(types, project, timeout=300)
    for arguments in (["check"], ["format", "--check"]):
        bench.run([bench.python, "-m", "ruff", *arguments, "--no-cache"], project, timeout=60)
    commit(Git(project), "own model")
    switch = {"framework": "ninja", "runtime": "xgboost", "server": "granian"}
    assert update(project, **switch).conflicts == {}
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert "pandas.*" in pyproject["tool"]["mypy"]["overrides"][-1]["module"]


def test_format_mends_what_it_can(copy_of: Callable[[Variant], Path], bench: Workbench) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", "uvicorn"))
    own = project / "src/service/own.py"
    own.write_text("import sys\nimport os\nx = [os,sys,undefined]\n", encoding="utf-8")
    bench.run(["make", "format", f"RUN={bench.python} -m"], project, timeout=60)
    assert own.read_text(encoding="utf-8") == (
        "import os\nimport sys\n\nx = [os, sys, undefined]\n"
    )


def test_a_dependency_that_uv_adds_stays_through_a_switch_of_everything(
    make_project: MakeProject,
) -> None:
    project = make_project()
    uv = [sys.executable, "-m", "uv", "add", "--offline", "--frozen", "--python", sys.executable]
    subprocess.run([*uv, "own-dependency>=1"], cwd=project, check=True, capture_output=True)
    commit(Git(project), "uv add")
    switch = {"framework": "ninja", "runtime": "xgboost", "server": "granian"}
    assert update(project, **switch).conflicts == {}
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert "own-dependency>=1" in pyproject["project"]["dependencies"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ROUTES)
def test_an_own_route_reads_an_own_setting(
    framework: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(Variant(framework, "python", "uvicorn"))
    files = {"routes.py": new(ROUTES[framework]), "settings.py": add_setting}
    edit(project / "src/service", files)
    serve = [bench.python, "-m", "service"]
    assert "OWN_GREETING " in bench.run([*serve, "--help"], project, timeout=60)
    with pytest.raises(CheckFailed) as refused:
        bench.run(serve, project, timeout=60, settings={"OWN_GREETING": "Hi"})
    assert str(refused.value).splitlines() == [
        "python -m service exited with 2",
        "OWN_GREETING: String should have at least 3 characters",
    ]
    with Service(project, bench.python, {"OWN_GREETING": "Welcome"}) as service:
        service.wait_ready()
        answer = ask(service.port, "GET", "/greetings/Ada")
    assert (answer.status, answer.json()) == (200, {"greeting": "Welcome, Ada!"})


def service_lines(project: Path, bench: Workbench, workers: str) -> list[str]:
    """Start a service that cannot start, and return what it says about that, beside its log."""
    settings = {"SERVICE_PORT": str(free_port()), "SERVICE_WORKERS": workers}
    with pytest.raises(CheckFailed) as failed:
        bench.run([bench.python, "-m", "service"], project, timeout=60, settings=settings)
    ended, *printed = str(failed.value).splitlines()
    assert ended == "python -m service exited with 1"
    return [line for line in printed if line.startswith("service: ")]


SWITCHES = [
    (old, Variant(new_framework, "python", server), workers)
    for (old, new_framework), server, workers in zip(
        permutations(ROUTES, 2), cycle(SERVERS), cycle("12"), strict=False
    )
]
SWITCH_NAMES = [f"{old} to {now.framework} on {now.server}" for old, now, _ in SWITCHES]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "switched", "workers"), SWITCHES, ids=SWITCH_NAMES)
def test_routes_of_a_framework_that_is_not_installed_are_told_in_a_line(
    old: str,
    switched: Variant,
    workers: str,
    copy_of: Callable[[Variant], Path],
    bench: Workbench,
) -> None:
    project = copy_of(switched)
    edit(project / "src/service", {"routes.py": new(ROUTES[old]), "settings.py": add_setting})
    missing = {"ninja": "django"}.get(old, old)
    hidden = f'raise ModuleNotFoundError("No module named {missing!r}")\n'
    edit(project / "src", {f"{missing}.py": new(hidden)})
    assert service_lines(project, bench, workers) == [
        "service: the application cannot be imported: service/routes.py, line 2: "
        f"ModuleNotFoundError: No module named '{missing}'"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "switched", "workers"),
    [switch for switch in SWITCHES if switch[0] != "ninja"],
    ids=[name for name in SWITCH_NAMES if not name.startswith("ninja")],
)
def test_routes_of_another_framework_are_told_in_a_line(
    old: str,
    switched: Variant,
    workers: str,
    copy_of: Callable[[Variant], Path],
    bench: Workbench,
) -> None:
    """Not those of Django Ninja: it cannot even be imported without settings of Django."""
    project = copy_of(switched)
    edit(project / "src/service", {"routes.py": new(ROUTES[old]), "settings.py": add_setting})
    assert service_lines(project, bench, workers) == [
        f"service: 'router' in src/service/routes.py is a {ROUTERS[old]}, "
        f"{NEEDS[switched.framework]}: port your routes, README.md shows how they look"
    ]
