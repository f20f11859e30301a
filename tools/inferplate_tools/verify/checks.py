"""The checks that every variant must pass: functions that raise `CheckFailed`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from shutil import rmtree
from typing import Final

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.verify.dependencies import check_dependencies
from inferplate_tools.verify.hygiene import problems, tree
from inferplate_tools.verify.openapi import check_openapi
from inferplate_tools.verify.server import check_server
from inferplate_tools.verify.suites import check_model, check_stand_ins, check_suite
from inferplate_tools.workbench import Workbench

_LINT_SECONDS: Final = 60
_TYPES_SECONDS: Final = 300


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


IN_PARTS: Final = (
    Check("model", "the emitted tests of the model", check_model),
    Check("stand-ins", "the other emitted tests, once for the same files", check_stand_ins),
)
"""What 'suite' is made of, for variants that share most of it with others."""

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
