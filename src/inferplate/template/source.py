"""Where the template is: the checkout that this file lies in, or the copy inside the wheel."""

from pathlib import Path
from typing import Final

PUBLIC_ADDRESS: Final = "gh:inferplate/inferplate"
"""The template's public address, as Copier spells it."""

_PACKAGE: Final = Path(__file__).resolve().parents[1]

QUESTIONS: Final = "copier.yml"


def template_root() -> Path:
    """Return the folder of ``copier.yml`` and ``template/``."""
    return bundled_template() or _PACKAGE.parents[1]


def bundled_template() -> Path | None:
    """Return the template inside the wheel, which is that of the installed version; or none."""
    bundled = _PACKAGE / "_template"
    return bundled if (bundled / QUESTIONS).is_file() else None


def installed_version() -> str:
    """Return the version of the template inside the wheel, as git names it.

    It is a tag, or a commit where an installer took it from a repository.
    """
    import json
    from importlib.metadata import distribution

    installed = distribution("inferplate")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    return str(commit) if commit else f"v{installed.version}"
