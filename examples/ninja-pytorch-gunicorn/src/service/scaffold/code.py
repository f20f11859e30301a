"""Writes Python as ``ruff format`` would."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Group:
    """Items between brackets: on one line if they fit, else each on its own.

    ``before`` ends with the opening bracket, ``after`` begins with the closing one.
    """

    before: str
    items: Sequence["Piece"]
    after: str
    one_each: bool = False


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A comprehension: what is made of each, and the loop."""

    before: str
    element: "Piece"
    loop: "Piece"
    after: str


Piece = str | Group | Comprehension


def lines(piece: Piece, indent: int = 0, end: str = "") -> list[str]:
    """Return the lines of a piece of code. ``end``: what follows it on its last line."""
    space = " " * indent
    flat = f"{space}{_flat(piece)}{end}"
    if isinstance(piece, str) or (not _one_each(piece) and _width(flat) <= _WIDTH):
        return [_allowed(flat)]
    if isinstance(piece, Comprehension):
        inner = [piece.element, piece.loop]
        together = f"{space}    {_flat(piece.element)} {_flat(piece.loop)}"
        if not _one_each(piece) and _width(together) <= _WIDTH:
            return [f"{space}{piece.before}", together, f"{space}{piece.after}{end}"]
        made = [line for part in inner for line in lines(part, indent + 4)]
        return [f"{space}{piece.before}", *made, f"{space}{piece.after}{end}"]
    return [
        f"{space}{piece.before}",
        *(line for item in piece.items for line in lines(item, indent + 4, ",")),
        f"{space}{piece.after}{end}",
    ]


def text(pieces: Iterable[Piece], indent: int = 0) -> str:
    """Return pieces of code, each on lines of its own."""
    return "".join(f"{line}\n" for piece in pieces for line in lines(piece, indent))


def literal(value: Any, before: str = "") -> Piece:
    """Return a value as Python spells it. ``before``: what stands in front of it."""
    match value:
        case dict():
            items = [literal(each, f"{literal(str(key))}: ") for key, each in value.items()]
            return Group(before + "{", items, "}")
        case list():
            return Group(f"{before}[", [literal(each) for each in value], "]")
        case str():
            return before + _quoted(value)
        case _:
            return f"{before}{value!r}"


def _quoted(value: str) -> str:
    """Return a string in double quotes, unless others need fewer escapes."""
    escaped = "".join(
        character if character in "\"'" else "\\\\" if character == "\\" else repr(character)[1:-1]
        for character in value
    )
    if value.count('"') > value.count("'"):
        return "'" + escaped.replace("'", "\\'") + "'"
    return '"' + escaped.replace('"', '\\"') + '"'


def _flat(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Comprehension):
        return f"{piece.before}{_flat(piece.element)} {_flat(piece.loop)}{piece.after}"
    return f"{piece.before}{', '.join(map(_flat, piece.items))}{piece.after}"


def _one_each(piece: Piece) -> bool:
    if isinstance(piece, str):
        return False
    if isinstance(piece, Comprehension):
        return _one_each(piece.element) or _one_each(piece.loop)
    return piece.one_each or any(map(_one_each, piece.items))


def _width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "FW" else 1 for character in line)


def _allowed(line: str) -> str:
    """Return a line; one that is too long cannot be broken, since it has a long name in it."""
    if _width(line) <= _WIDTH or " " not in line.strip():
        return line
    return f"{line}  # noqa: E501"
