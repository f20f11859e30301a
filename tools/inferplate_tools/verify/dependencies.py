"""Checks that a project declares what it imports, and imports what it declares."""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.workbench import Workbench

_LOADED_BY_NAME: Final = frozenset({"httptools", "scikit-learn", "uvloop"})
"""Distributions that others load if they are installed; nothing imports them."""

_OPTIONAL: Final = frozenset(
    {"multipart", "nvidia-ml-py", "opentelemetry-sdk", "pandas", "pillow", "pyarrow"}
)
"""Distributions that are imported only where a manifest, predict.py, a file to score or the
environment asks for them; where they are missing, a line says so."""

_SAME_MODULES: Final = {"onnxruntime-gpu": "onnxruntime"}
"""Distributions that are not installed here, by one that is and has the same modules."""

_OWN: Final = frozenset({"service", "conftest", "managed", "train"})


def check_dependencies(bench: Workbench, variant: Variant) -> None:
    """Compare the declared dependencies with the imports, in both directions."""
    found = list(disagreements(bench.project(variant)))
    if found:
        raise CheckFailed("\n".join(found))


def disagreements(project: Path) -> Iterator[str]:
    """Describe each import that is not declared and each declaration that nothing imports."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    groups = document.get("dependency-groups", {})
    needed = distributions(document["project"]["dependencies"]) | _OPTIONAL
    training = distributions(groups.get("train", []))
    developing = distributions(groups.get("dev", []))
    service = _imports(project.glob("src/**/*.py"))
    train = _imports([project / "train.py"])
    tests = _imports(project.glob("tests/**/*.py"))
    yield from _undeclared("src", service, needed)
    yield from _undeclared("train.py", train, needed | training)
    yield from _undeclared("tests", tests, needed | developing)
    for name in sorted(needed - _named(service) - _LOADED_BY_NAME - _OPTIONAL):
        yield f"pyproject.toml declares {name}, which src does not import"
    for name in sorted(training - _named(train)):
        yield f"the group 'train' declares {name}, which train.py does not import"


def _undeclared(where: str, imports: set[str], declared: set[str]) -> Iterator[str]:
    for module in sorted(imports):
        owners = _owners(module)
        if not owners & declared:
            named = " or ".join(sorted(owners)) or "a distribution that is not installed"
            yield f"{where} imports {module}, of {named}, without declaring it"


def _named(imports: set[str]) -> set[str]:
    return {owner for module in imports for owner in _owners(module)}


def _owners(module: str) -> set[str]:
    return {canonicalize_name(name) for name in _installed().get(module, [])}


@cache
def _installed() -> dict[str, list[str]]:
    return dict(packages_distributions())


def distributions(requirements: Iterable[Any]) -> set[str]:
    """Return the names of those that this platform needs."""
    parsed = [Requirement(each) for each in requirements if isinstance(each, str)]
    names = {
        canonicalize_name(each.name)
        for each in parsed
        if each.marker is None or each.marker.evaluate()
    }
    return {_SAME_MODULES.get(name, name) for name in names}


def _imports(files: Iterable[Path]) -> set[str]:
    return {module for path in files for module in _third_party(ast.parse(path.read_bytes()))}


def _third_party(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in _OWN:
                yield top
