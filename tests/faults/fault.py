"""Faults: what is changed where, of which kind, and which tests should notice."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferplate.matrix import AXES, Variant

FOLDER: Final = Path(__file__).parent
WHOLE_SUITE: Final = ("tests",)

_DEFAULTS: Final = Variant("fastapi", "onnxruntime", "uvicorn")
_FOLDERS: Final = {"runtimes": "runtime", "servers": "server"}
_FRAMEWORKS: Final = ("fastapi", "litestar", "ninja")
_RUNTIME_TESTS: Final = (
    "tests/test_runtimes.py",
    "tests/test_against_library.py",
    "tests/test_tables.py",
    "tests/test_batch_axis.py",
    "tests/test_odd_models.py",
)
_SERVER_TESTS: Final = ("tests/test_connections.py", "tests/test_serving.py")
_EQUIVALENT: Final = FOLDER / "equivalent.toml"


class FaultError(Exception):
    """A fault that cannot be planted. The text names it."""


@dataclass(frozen=True)
class Fault:
    """A change of one file that tests should notice.

    ``what``: the fault in words, empty for one that was drawn. ``file``: its path in the
    repository, where ``old`` occurs once. ``emitted``: the tests of the emitted service that should
    notice, ``project``: those of the repository; both as arguments of pytest. ``variant``: that
    which is emitted.
    """

    kind: str
    what: str
    file: str
    old: str
    new: str
    variant: Variant
    emitted: tuple[str, ...]
    project: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.what or self.change} ({self.file})"

    @property
    def change(self) -> str:
        """The text that is changed, on one line. Of a whole file, it is the lines that differ."""
        old, new = self.old.splitlines(), self.new.splitlines()
        lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
        removed, added = (
            _short(" ".join(line[1:] for line in lines if line[0] == sign)) for sign in "-+"
        )
        return f"{removed} -> {added}"

    def plant(self, text: str) -> str:
        """Return the text of the file with the fault in it.

        Raises:
            FaultError: the old text does not occur exactly once.
        """
        if (count := text.count(self.old)) != 1:
            raise FaultError(f"{self.name}: the old text occurs {count} times")
        return text.replace(self.old, self.new)


def planted(folder: Path = FOLDER / "planted") -> Iterator[Fault]:
    """Read the faults that were written by hand: one file for each kind."""
    for path in sorted(folder.glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in document["fault"]:
            file = str(entry["file"])
            project = tuple(entry.get("project", ()))
            emitted = tuple(entry.get("emitted", () if project else WHOLE_SUITE))
            variant = variant_of(file, entry)
            yield Fault(
                path.stem,
                entry["what"],
                file,
                entry["old"],
                entry["new"],
                variant,
                emitted,
                project,
            )


def reasons() -> dict[tuple[str, str], str]:
    """Read why some drawn faults change nothing that can be seen, by file and change."""
    document = tomllib.loads(_EQUIVALENT.read_text(encoding="utf-8"))
    return {(entry["file"], entry["change"]): entry["reason"] for entry in document["fault"]}


def variant_of(file: str, chosen: dict[str, str] | None = None) -> Variant:
    """Return the variant into which a file of the template is emitted."""
    answers = _DEFAULTS.answers()
    _, first, second, *_ = (*Path(file).parts, "", "")
    if first in _FRAMEWORKS:
        answers["framework"] = first
    elif axis := _FOLDERS.get(first):
        answers = {**answers, axis: second, "task": ""}
    answers.update({axis: chosen[axis] for axis in AXES if chosen and axis in chosen})
    return Variant(**answers)


def tests_of(file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tests that should notice a fault in a module: the service's, the repository's."""
    _, first, second, *_ = Path(file).parts
    if first == "servers":
        return (), (*_SERVER_TESTS, "-k", second)
    if first == "runtimes":
        return ("tests/test_model.py",), (*_RUNTIME_TESTS, "-k", f"{second} or odd_model")
    return WHOLE_SUITE, ()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."
