"""Modules import each other in one direction only: of the emitted service, and of our own."""

import shutil
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, COVERING_VARIANTS

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.verify.dependencies import distributions
from inferplate_tools.verify.facts import read_facts
from inferplate_tools.workbench import Workbench

CONTRACTS = Path(__file__).with_name("importlinter.ini")
OF_TOOLS = Path(__file__).with_name("importlinter-tools.ini")

IGNORED = shutil.ignore_patterns("__pycache__")
DOWNWARD = "Every import goes downward"
OF_THE_TOOLS = "Every import of the tools goes downward"
RUNTIME = "The runtime imports only the core"
ALTERNATIVES = "Runtime and server are chosen where the service is put together"
FRAMEWORK = "The web framework stays in its three modules"
LIBRARY = "The library of the model stays in runtime.py"
SERVER = "The server stays in server.py"
HTTP = "The core knows nothing of HTTP"
CIRCLE = "No modules import each other in a circle"


def lint_imports(
    project: Path, bench: Workbench, contracts: Path = CONTRACTS, path: str = "src"
) -> None:
    program = str(Path(bench.python).with_name("lint-imports"))
    settings = {"PYTHONPATH": path}
    bench.run([program, "--no-cache", str(contracts)], project, timeout=60, settings=settings)


@pytest.mark.parametrize(
    ("module", "imported", "broken"),
    [
        ("", "", ""),
        ("src/inferplate/errors", "inferplate.git", DOWNWARD),
        ("src/inferplate/git", "inferplate.template.source", DOWNWARD),
        ("src/inferplate/template/render", "inferplate.project.plan", DOWNWARD),
        ("src/inferplate/project/plan", "inferplate.commands.new", DOWNWARD),
        ("src/inferplate/commands/new", "inferplate.cli", DOWNWARD),
        ("src/inferplate/cli", "inferplate_tools.errors", DOWNWARD),
        ("tools/inferplate_tools/workbench", "inferplate_tools.service", OF_THE_TOOLS),
        ("tools/inferplate_tools/bench/load", "inferplate_tools.verify.checks", OF_THE_TOOLS),
        ("src/inferplate/project/merge", "inferplate.project.plan", CIRCLE),
    ],
)
def test_our_own_modules_keep_their_contracts(
    module: str, imported: str, broken: str, bench: Workbench, tmp_path: Path
) -> None:
    for folder in ("src", "tools"):
        shutil.copytree(template_root() / folder, tmp_path / folder, ignore=IGNORED)
    if not module:
        lint_imports(tmp_path, bench, OF_TOOLS, "src:tools")
        return
    with (tmp_path / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write(f"import {imported}\n")
    with pytest.raises(CheckFailed, match=f"{broken} BROKEN"):
        lint_imports(tmp_path, bench, OF_TOOLS, "src:tools")


@pytest.mark.parametrize("covered", COVERING_VARIANTS, ids=str)
def test_the_contracts_are_kept(covered: Variant, bench: Workbench) -> None:
    lint_imports(bench.project(covered), bench)


@pytest.mark.parametrize(
    ("module", "imported", "broken"),
    [
        ("ops/logs", "service.core.errors", DOWNWARD),
        ("ops/logs", "service.settings", DOWNWARD),
        ("core/engine", "service.web.body", DOWNWARD),
        ("core/engine", "service.server", DOWNWARD),
        ("web/front", "service.predict", DOWNWARD),
        ("web/front", "service.routes", DOWNWARD),
        ("web/front", "service.app", DOWNWARD),
        ("web/front", "service.dependencies", DOWNWARD),
        ("web/front", "service.settings", DOWNWARD),
        ("web/front", "service.runtime", DOWNWARD),
        ("settings", "service.predict", DOWNWARD),
        ("predict", "service.dependencies", DOWNWARD),
        ("dependencies", "service.routes", DOWNWARD),
        ("routes", "service.app", DOWNWARD),
        ("app", "service.main", DOWNWARD),
        ("main", "service.__main__", DOWNWARD),
        ("main", "service.scaffold.plan", DOWNWARD),
        ("main", "service.scoring.run", DOWNWARD),
        ("scaffold/plan", "service.__main__", DOWNWARD),
        ("scaffold/plan", "service.scoring.run", DOWNWARD),
        ("scoring/run", "service.commands", DOWNWARD),
        ("commands", "service.__main__", DOWNWARD),
        ("runtime", "service.web.asgi", DOWNWARD),
        ("server", "service.core.engine", DOWNWARD),
        ("server", "service.main", DOWNWARD),
        ("unheard_of", "json", DOWNWARD),
        ("runtime", "service.ops.process", RUNTIME),
        ("predict", "service.runtime", ALTERNATIVES),
        ("scoring/command", "service.runtime", ALTERNATIVES),
        ("runtime", "service.server", ALTERNATIVES),
        ("server", "service.interfaces", ALTERNATIVES),
        ("predict", "fastapi", FRAMEWORK),
        ("core/engine", "starlette.requests", FRAMEWORK),
        ("web/front", "django.http", FRAMEWORK),
        ("server", "litestar", FRAMEWORK),
        ("main", "ninja", FRAMEWORK),
        ("core/warmup", "onnxruntime", LIBRARY),
        ("predict", "torch", LIBRARY),
        ("core/engine", "uvicorn", SERVER),
        ("__main__", "uvloop", SERVER),
        ("core/manifest", "httpx", HTTP),
        ("core/manifest", "http.client", HTTP),
        ("ops/settings", "service.ops.logs", CIRCLE),
        ("web/asgi", "service.web.front", CIRCLE),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    module: str, imported: str, broken: str, bench: Workbench, tmp_path: Path
) -> None:
    shutil.copytree(bench.project(ALL_VARIANTS[0]) / "src", tmp_path / "src")
    with (tmp_path / f"src/service/{module}.py").open("a", encoding="utf-8") as file:
        file.write(f"import {imported}\n")
    with pytest.raises(CheckFailed, match=f"{broken} BROKEN"):
        lint_imports(tmp_path, bench)


@pytest.mark.parametrize(
    ("contract", "parent", "axis"),
    [
        ("frameworks", "", "framework"),
        ("runtimes", "runtimes/", "runtime"),
        ("servers", "servers/", "server"),
    ],
)
def test_a_contract_names_the_packages_of_every_alternative(
    contract: str, parent: str, axis: str
) -> None:
    contracts = ConfigParser()
    contracts.read(CONTRACTS, encoding="utf-8")
    modules = contracts[f"importlinter:contract:{contract}"]["forbidden_modules"].split()
    installed = packages_distributions()
    named = {distribution.lower() for module in modules for distribution in installed[module]}
    for alternative in {getattr(variant, axis) for variant in ALL_VARIANTS}:
        needed = read_facts(template_root(), f"{parent}{alternative}")["dependencies"]
        assert distributions(needed) <= named, alternative
