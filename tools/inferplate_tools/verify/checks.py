"""The checks that every variant must pass: functions that raise `CheckFailed`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage, rmtree
from tempfile import TemporaryDirectory
from typing import Final

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.verify.dependencies import check_dependencies
from inferplate_tools.verify.hygiene import problems, tree
from inferplate_tools.verify.openapi import check_openapi
from inferplate_tools.verify.server import check_server
from inferplate_tools.workbench import Workbench

_LINT_SECONDS: Final = 60
_TYPES_SECONDS: Final = 300
_SUITE_SECONDS: Final = 300
_ROOM: Final = 2**30
FOREIGN_PLUGINS: Final = (
    "copie",
    "faker",
    "hypothesispytest",
    "schemathesis",
    "xdist",
    "xdist.looponfail",
)
"""pytest plugins of the shared environment that an emitted project does not have."""


@dataclass(frozen=True)
class Check:
    """A check by name; ``run`` is given the workbench and the variant."""

    name: str
    description: str
    run: Callable[[Workbench, Variant], None]


def check_render(bench: Workbench, variant: Variant) -> None:
    """Render twice, without trust, and look at the result."""
    folders = [bench.root / "renders" / side / variant.name for side in "ab"]
    try:
        first, second = (
            tree(render(bench.template(), folder, variant.answers())) for folder in folders
        )
        if first != second:
            raise CheckFailed(f"two renders differ\n{_difference(first, second)}")
        if found := problems(folders[0]):
            raise CheckFailed("\n".join(found))
        bench.once(f"variants/{variant}", folders[0].rename)  # a third render would be equal
    finally:
        for folder in folders:
            rmtree(folder, ignore_errors=True)


def check_lint(bench: Workbench, variant: Variant) -> None:
    """Lint and check the format with the project's own configuration."""
    project = bench.project(variant)
    for arguments in (["check"], ["format", "--check", "--diff"]):
        command = [bench.python, "-m", "ruff", *arguments, "--quiet", "--no-cache", "."]
        bench.run(command, project, timeout=_LINT_SECONDS)


def check_types(bench: Workbench, variant: Variant) -> None:
    """Check types with the project's own configuration, strictly."""
    with bench.mypy() as command:
        bench.run(command, bench.project(variant), timeout=_TYPES_SECONDS)


def check_suite(bench: Workbench, variant: Variant) -> None:
    """Run the emitted tests."""
    _run_tests(bench, variant)


def check_model(bench: Workbench, variant: Variant) -> None:
    """Run those of the emitted tests that ask the example model.

    The others, in ``tests/managed``, run on stand-ins for what depends on the task.
    """
    _run_tests(bench, variant, "--ignore", "tests/managed")


def _run_tests(bench: Workbench, variant: Variant, *arguments: str) -> None:
    bench.place_artifact(variant)
    disabled = [part for plugin in FOREIGN_PLUGINS for part in ("-p", f"no:{plugin}")]
    # Rewriting the assertions of every variant is a tenth of the work; failures show their locals.
    shown = ["--assert=plain", "--showlocals"]
    command = [bench.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *shown, *disabled]
    with TemporaryDirectory(dir=_memory(), ignore_cleanup_errors=True) as folder:
        command += ["--basetemp", str(Path(folder, "tests"))]
        bench.run([*command, *arguments], bench.project(variant), timeout=_SUITE_SECONDS)


def _memory() -> Path | None:
    """Return a folder in memory, where tests write their files faster; None if there is none."""
    folder = Path("/dev/shm")  # noqa: S108 - what is made in it has a name of its own
    return folder if folder.is_dir() and disk_usage(folder).free > _ROOM else None


MODEL: Final = Check("model", "the emitted tests of the model", check_model)
"""A part of 'suite', for the variants of a task whose whole suite runs in others."""

CHECKS: Final = {
    check.name: check
    for check in (
        Check("render", "rendered twice without trust, with equal results", check_render),
        Check("lint", "ruff check, ruff format", check_lint),
        Check("types", "mypy --strict", check_types),
        Check("dependencies", "imports what it declares, and the reverse", check_dependencies),
        Check("openapi", "the OpenAPI document is the snapshot", check_openapi),
        Check("suite", "the emitted tests", check_suite),
        Check("server", "started, asked over HTTP, drained, ended in time", check_server),
    )
}


def _difference(first: dict[str, bytes], second: dict[str, bytes]) -> str:
    for name in sorted(first.keys() | second.keys()):
        left, right = (
            files.get(name, b"").decode("utf-8", "replace").splitlines()
            for files in (first, second)
        )
        if left != right or (name in first) != (name in second):
            return "\n".join([name, *difflib.unified_diff(left, right, lineterm="")])
    return ""
