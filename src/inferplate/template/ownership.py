"""Who owns a file. One place names the user's files: the ``_exclude`` of ``copier.yml``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from inferplate.template.source import QUESTIONS


def users_files(template: Path, answers: Mapping[str, Any]) -> Callable[[str], bool]:
    """Return a function that returns whether the file of a path is the user's."""
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(sorted(users_patterns(template, answers))).match_file


def users_patterns(template: Path, answers: Mapping[str, Any]) -> set[str]:
    """Return the patterns of the files that an update by Copier leaves out and a copy does not.

    ``answers``: those that a render has recorded.
    """
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    settings = yaml.safe_load((template / QUESTIONS).read_bytes())
    environment = SandboxedEnvironment(loader=FileSystemLoader(template), undefined=StrictUndefined)
    entries = [
        environment.from_string(entry)
        for entry in settings.get("_exclude", [])
        if "_copier_operation" in entry
    ]

    def patterns(operation: str) -> set[str]:
        rendered = (entry.render(answers, _copier_operation=operation) for entry in entries)
        return {line.strip() for text in rendered for line in text.splitlines() if line.strip()}

    return patterns("update") - patterns("copy")
