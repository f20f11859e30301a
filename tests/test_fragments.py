"""The fragments are checked where they stand in ``template/``.

Each alternative is checked together with the modules that put the service together: there an
alternative meets the shape that ``service.interfaces`` wants of it.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS

from inferplate.template.source import template_root
from inferplate_tools.verify.facts import read_facts
from inferplate_tools.workbench import Workbench

ROOT = template_root()
TEMPLATE = ROOT / "template"
SERVICE = TEMPLATE / "service"
FRAGMENTS = sorted(
    path.relative_to(ROOT)
    for path in TEMPLATE.rglob("*.py")
    if "__pycache__" not in path.parts and not path.is_relative_to(SERVICE / "tests")
)
ASSEMBLY = [(SERVICE / f"src/service/{name}.py").relative_to(ROOT) for name in ("main", "__main__")]
SUITE = sorted(path.relative_to(ROOT) for path in (SERVICE / "tests").rglob("*.py"))
DEFAULTS = {
    "framework": TEMPLATE / "fastapi",
    "runtime": TEMPLATE / "runtimes/onnxruntime",
    "server": TEMPLATE / "servers/uvicorn",
}
RUNTIME_OF = {
    folder: TEMPLATE / "runtimes" / folder.name
    for folder in TEMPLATE.glob("examples/*/*")
    if (folder / "train.py").exists()
}
"""The runtime of each folder with the training of a task, and what else a task has for it alone."""
FIRST_TASKS = {variant.runtime: variant.task for variant in ALL_VARIANTS}


def owner(fragment: Path) -> Path | None:
    """Return the alternative's folder that a fragment belongs to, None for neutral files."""
    path = ROOT / fragment
    for part in path.parents:
        if part in RUNTIME_OF:
            return part
        if part.parent in (TEMPLATE / "runtimes", TEMPLATE / "servers", TEMPLATE / "examples"):
            return part
        if part.parent == TEMPLATE and part != SERVICE:
            return part
    return None


def search_path(own: Path | None) -> str:
    """Put a fragment's alternative in its place among the defaults of the others."""
    chosen = dict(DEFAULTS)
    if own in RUNTIME_OF:
        task = own if (own / "src").exists() else own.parent
        chosen |= {"runtime": RUNTIME_OF[own], "task": task}
    elif own is not None:
        kind = {"runtimes": "runtime", "servers": "server", "examples": "task"}
        chosen[kind.get(own.parent.name, "framework")] = own
    if "task" not in chosen:
        chosen["task"] = TEMPLATE / "examples" / FIRST_TASKS[chosen["runtime"].name]
    folders = [str(folder / "src") for folder in (SERVICE, *chosen.values())]
    return os.pathsep.join([*folders, str(SERVICE / "tests")])


GROUPS = [
    (own, list(group))
    for own, group in itertools.groupby(
        sorted(FRAGMENTS, key=lambda fragment: str(owner(fragment) or "")), key=owner
    )
]


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configure mypy: strict, and untyped is what the facts say is untyped."""
    untyped = {
        module
        for facts in TEMPLATE.rglob("facts.jinja")
        for module in read_facts(ROOT, str(facts.parent.relative_to(TEMPLATE))).get("untyped", [])
    }
    path = tmp_path_factory.mktemp("mypy") / "mypy.ini"
    untyped |= {"PIL.*", "multipart.*", "pandas.*"}  # of owners who have images, files, tables
    sections = ["[mypy]", "strict = True", f"[mypy-{','.join(sorted(untyped))}]"]
    path.write_text("\n".join([*sections, "ignore_missing_imports = True\n"]), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "fragments"),
    GROUPS,
    ids=["-".join(own.relative_to(TEMPLATE).parts[-2:]) if own else "service" for own, _ in GROUPS],
)
def test_types(
    own: Path | None, fragments: list[Path], configuration: Path, bench: Workbench
) -> None:
    files = [*fragments, *(SUITE if own is None else ASSEMBLY)]
    options = ["--explicit-package-bases", "--namespace-packages", "--config-file"]
    with bench.mypy(*options, str(configuration), *map(str, files)) as command:
        bench.run(command, ROOT, timeout=300, settings={"MYPYPATH": search_path(own)})


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_lint(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "template"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("fragment", [*FRAGMENTS, *SUITE], ids=str)
def test_python_files_hold_no_jinja(fragment: Path) -> None:
    text = (ROOT / fragment).read_text(encoding="utf-8")
    assert not [pair for pair in ("{{", "{%", "{#") if pair in text]


def test_no_symlinks_and_names_that_travel() -> None:
    for path in TEMPLATE.rglob("*"):
        assert not path.is_symlink(), path
        assert '"' not in path.name, path
