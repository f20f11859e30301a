"""What is measured: how it is started, and what it is asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from inferplate_tools.bench.load import Request
from inferplate_tools.client import Response, alike, ask
from inferplate_tools.errors import CheckFailed

WIRES: Final = ("json", "binary", "typed")

_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Exchange:
    """A request and whether an answer to it is right."""

    request: Request
    is_right: Callable[[Response], bool]

    def check(self, port: int) -> None:
        """Ask once.

        Raises:
            CheckFailed: the answer is wrong.
        """
        sent = self.request
        answer = ask(port, "POST", sent.path, sent.body, sent.headers, timeout=60)
        if not 200 <= answer.status < 300:
            raise CheckFailed(f"{sent.path} answers {answer.status}: {answer.body[:200]!r}")
        try:
            right = self.is_right(answer)
        except (ValueError, LookupError, TypeError) as error:
            raise CheckFailed(f"{sent.path}: {type(error).__name__}: {error}") from error
        if not right:
            raise CheckFailed(f"{sent.path} answers something else: {answer.body[:200]!r}")


@dataclass(frozen=True)
class Contestant:
    """How to start something and what to ask it.

    ``wires``: makes the exchange of so many rows, for each encoding that it understands.
    ``is_peer``: not one of ours; it is frozen while others are measured.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    ready: str
    wires: Mapping[str, Callable[[int], Exchange]]
    python: str
    is_peer: bool
    versions: Mapping[str, str] = field(default_factory=dict)


def matches(found: Sequence[float], expected: Iterable[Sequence[float]]) -> bool:
    """Return whether numbers equal one of the expected sequences, up to rounding."""
    return any(alike(list(found), list(known), _TOLERANCE) for known in expected)


def numbers_in(value: Any) -> Iterator[float]:
    """Walk through the numbers of a JSON value, in their order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
