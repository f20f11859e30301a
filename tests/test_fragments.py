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
HANDLERS = TEMPLATE / "handlers"
SUITE = sorted(
    path.relative_to(ROOT)
    for folder in (SERVICE, HANDLERS / "predict")
    for path in (folder / "tests").rglob("*.py")
    if folder == SERVICE or path.name != "__init__.py"
)
FRAGMENTS = sorted(
    path.relative_to(ROOT)
    for path in TEMPLATE.rglob("*.py")
    if not ("__pycache__" in path.parts or path.is_relative_to(SERVICE / "tests"))
    and not path.is_relative_to(HANDLERS / "predict/tests")
    and path != HANDLERS / "none/tests/managed/__init__.py"
)
DEFAULTS = {
    "accelerator": TEMPLATE / "accelerators/cpu",
    "handler": HANDLERS / "predict",
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
        if part.parent == HANDLERS / "none" and part.name not in ("src", "tests"):
            return part
        if part.parent in (
            HANDLERS,
            TEMPLATE / "accelerators",
            TEMPLATE / "runtimes",
            TEMPLATE / "servers",
            TEMPLATE / "examples",
        ):
            return part
        if part.parent == TEMPLATE and part != SERVICE:
            return part
    return None


def search_path(own: Path | None) -> str:
    """Put a fragment's alternative in its place among the defaults of the others."""
    chosen = alternatives(own)
    folders = [str(folder / "src") for folder in (SERVICE, *chosen.values())]
    others = (SERVICE / "tests", chosen["handler"] / "tests", SERVICE / "deploy/ray")
    return os.pathsep.join([*folders, *map(str, others)])


def alternatives(own: Path | None) -> dict[str, Path]:
    """Return the folders of the alternatives with which a fragment's own is put together."""
    chosen = dict(DEFAULTS)
    if own is not None and own.is_relative_to(HANDLERS / "none"):
        framework = HANDLERS / "none/fastapi" if own == HANDLERS / "none" else own
        chosen |= {"handler": HANDLERS / "none", "framework": framework}
    elif own in RUNTIME_OF:
        task = own if (own / "src").exists() else own.parent
        chosen |= {"runtime": RUNTIME_OF[own], "task": task}
    elif own is not None:
        kind = {
            "accelerators": "accelerator",
            "handlers": "handler",
            "runtimes": "runtime",
            "servers": "server",
            "examples": "task",
        }
        chosen[kind.get(own.parent.name, "framework")] = own
    if "task" not in chosen:
        chosen["task"] = TEMPLATE / "examples" / FIRST_TASKS[chosen["runtime"].name]
    return chosen


def assembly(own: Path | None) -> list[Path]:
    """Return the modules that put a service with a fragment together."""
    folders = {"main": alternatives(own)["handler"], "__main__": SERVICE}
    return [
        (folder / f"src/service/{name}.py").relative_to(ROOT) for name, folder in folders.items()
    ]


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
    # What optional libraries are imported for: images, files, tables, spans, a GPU's memory.
    untyped |= {"PIL.*", "multipart.*", "opentelemetry.*", "pandas.*", "pyarrow.*", "pynvml"}
    sections = ["[mypy]", "strict = True", f"[mypy-{','.join(sorted(untyped))}]"]
    sections += ["ignore_missing_imports = True"]
    sections += ["[mypy-ray.*]", "follow_imports = skip", "ignore_missing_imports = True", ""]
    path.write_text("\n".join(sections), encoding="utf-8")
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
    files = {*fragments, *(SUITE if own is None else assembly(own))}
    options = ["--explicit-package-bases", "--namespace-packages", "--config-file"]
    if own is not None and own.is_relative_to(HANDLERS / "none"):
        # Modules of the same names with other content: mypy would take some of its cache for these.
        options = ["--cache-dir", str(bench.root / "mypy-without-handler"), *options]
    with bench.mypy(*options, str(configuration), *sorted(map(str, files))) as command:
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
