"""What no emitted tree may hold: leftovers of the template, and what does not travel."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_JINJA: Final = re.compile(r"\{%|%\}|\{#|(?<!\$)\{\{")
_VENDORED: Final = frozenset({".css", ".js", ".map"})
_ILLEGAL: Final = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
_DEVICES: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_LONGEST_PATH: Final = 120


def tree(project: Path) -> dict[str, bytes]:
    """Read every file of a project, by its POSIX path."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in sorted(project.rglob("*"))
        if path.is_file()
    }


def problems(project: Path) -> list[str]:
    """Describe everything in a freshly rendered tree that should not be there, a line each."""
    links = [f"{path.name} is a symlink" for path in project.rglob("*") if path.is_symlink()]
    files = tree(project)
    return [*links, *_collisions(files), *_of_names(files), *_of_contents(files)]


def _collisions(files: dict[str, bytes]) -> Iterator[str]:
    folded = Counter(name.casefold() for name in files)
    for name in files:
        if folded[name.casefold()] > 1:
            yield f"{name} differs from another name only in case"


def _of_names(files: dict[str, bytes]) -> Iterator[str]:
    for name in files:
        parts = PurePosixPath(name).parts
        if any(_ILLEGAL.search(part) or _DEVICES.fullmatch(part) for part in parts):
            yield f"{name} is not a valid name on Windows"
        if len(name) > _LONGEST_PATH:
            yield f"{name} is longer than {_LONGEST_PATH} characters"
        if name.endswith(".jinja") or _JINJA.search(name):
            yield f"{name} is the name of a template"


def _of_contents(files: dict[str, bytes]) -> Iterator[str]:
    for name, content in files.items():
        if not content.strip():
            yield f"{name} is empty"
        if b"\0" in content:
            continue
        if b"\r" in content:
            yield f"{name} has line ends that are not LF"
        if PurePosixPath(name).suffix in _VENDORED:
            continue
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            yield f"{name} is not UTF-8"
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if _JINJA.search(line):
                yield f"{name}:{number} has Jinja left in it: {line.strip()[:80]}"
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield f"{name} does not end with one newline"
