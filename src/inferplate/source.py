"""Where the template is: the checkout that this file lies in, or the copy inside the wheel."""

from pathlib import Path
from typing import Final

PUBLIC_ADDRESS: Final = "gh:inferplate/inferplate"
"""The template's public address, as Copier spells it."""

QUESTIONS: Final = "copier.yml"


def template_root() -> Path:
    """Return the folder of ``copier.yml`` and ``template/``."""
    package = Path(__file__).resolve().parent
    bundled = package / "_template"
    return bundled if (bundled / QUESTIONS).is_file() else package.parents[1]


def benchmarks_root() -> Path:
    """Return the folder of what ``inferplate bench`` measures besides the emitted services."""
    package = Path(__file__).resolve().parent
    bundled = package / "_benchmarks"
    return bundled if bundled.is_dir() else package.parents[1] / "benchmarks"
