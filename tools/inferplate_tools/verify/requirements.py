"""What variants and their checks need in the environment in which they run."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final

from inferplate.errors import InferplateError
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.verify.dependencies import distributions
from inferplate_tools.verify.facts import read_facts

_OF_CHECKS: Final = frozenset({"mypy", "pytest", "ruff"})


def require(variants: Iterable[Variant]) -> None:
    """Check that everything is installed.

    Raises:
        InferplateError: something is not; the text names it.
    """
    folders = {
        folder
        for each in variants
        for folder in (each.framework, f"runtimes/{each.runtime}", f"servers/{each.server}")
    }
    facts = [read_facts(template_root(), folder) for folder in folders]
    needed = _OF_CHECKS.union(*(distributions(each["dependencies"]) for each in facts))
    if missing := [name for name in sorted(needed) if not is_installed(name)]:
        raise InferplateError(
            f"not installed here: {', '.join(missing)}; 'make matrix' installs all that is needed"
        )


def is_installed(name: str) -> bool:
    """Return whether a distribution is in this environment."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
