"""Draws mutations of the template's Python files, by the operators of Cosmic Ray."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from faults.fault import Fault, tests_of, variant_of

KIND: Final = "drawn"
_SOURCES: Final = (
    "template/service/src/service/core/*.py",
    "template/service/src/service/web/**/*.py",
    "template/*/src/service/app.py",
    "template/*/src/service/dependencies.py",
    "template/runtimes/*/src/service/runtime.py",
    "template/servers/*/src/service/server.py",
)


class _Mutation(NamedTuple):
    """A place where an operator can mutate a file. ``occurrence``: counted through the file."""

    operator: str
    occurrence: int
    column: int

    @property
    def family(self) -> str:
        """Operators of one family do the same with other results: + becomes -, or *, or /."""
        return self.operator.partition("_")[0]


def draw(root: Path, count: int, seed: int) -> list[Fault]:
    """Draw mutations from all of the template's files: one of a line at most, each line alike.

    A line takes part by a hash of its text, so that a change elsewhere leaves the draw as it is.
    """
    texts = {path: (root / path).read_text(encoding="utf-8") for path in _sources(root)}
    lines = sorted(
        (_rank(seed, path, line, occurrence), path, number)
        for path, text in texts.items()
        for number, line, occurrence in _lines(text)
    )
    mutations: dict[str, dict[int, list[_Mutation]]] = {}
    found: list[Fault] = []
    for rank, path, number in lines:
        if len(found) == count:
            break
        if path not in mutations:
            mutations[path] = _mutations(texts[path])
        choices = mutations[path].get(number, [])
        fault = _choose(rank, path, texts[path], choices)
        if fault:
            found.append(fault)
    return found


def _sources(root: Path) -> Iterator[str]:
    paths = {path for pattern in _SOURCES for path in root.glob(pattern)}
    yield from sorted(path.relative_to(root).as_posix() for path in paths)


def _lines(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield the number and the text of each line, and how often that text came before."""
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        seen[line] = seen.get(line, -1) + 1
        yield number, line, seen[line]


def _mutations(text: str) -> dict[int, list[_Mutation]]:
    """Return all mutations of a file, by the number of the line."""
    nodes = list(ast_nodes(get_ast(text)))
    found: dict[int, list[_Mutation]] = {}
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue  # it needs the names of variables
        positions = [place for node in nodes for place, _ in operator().mutation_positions(node)]
        for occurrence, (line, column) in enumerate(positions):
            found.setdefault(line, []).append(_Mutation(name, occurrence, column))
    return found


def _choose(rank: str, path: str, text: str, choices: Sequence[_Mutation]) -> Fault | None:
    """Choose one mutation of a line: first the place, then the operator."""
    ordered = sorted(
        choices,
        key=lambda each: (
            _rank(rank, each.family, each.column),
            _rank(rank, each.operator, each.column),
        ),
    )
    for mutation in ordered:
        operator = get_operator(mutation.operator)()
        try:
            changed = mutate_code(text, operator, mutation.occurrence)
        except AttributeError:
            continue  # Cosmic Ray 8.7 fails at exceptions in parentheses
        if changed and changed != text:
            return Fault(KIND, "", path, text, changed, variant_of(path), **tests_of(path))
    return None


def _rank(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
