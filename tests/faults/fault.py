"""Faults: what is changed where, of which kind, and which tests should notice."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inferplate.template.questions import AXES
from inferplate.template.variants import WITHOUT_HANDLER, Variant

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
    "tests/test_weights.py",
)
_SERVER_TESTS: Final = ("tests/test_connections.py", "tests/test_serving.py")
_QUICK_SERVER_TESTS: Final = (
    *(
        f"tests/test_connections.py::test_{name}"
        for name in (
            "size_of_the_head_is_that_of_all_headers_together",
            "size_of_one_header",
            "bad_chunk",
            "idle_connections_give_way",
            "idle_connections_give_way_after_silent_ones",
            "a_connection_with_a_request_does_not_give_way",
            "body_of_a_request_that_offers_an_upgrade",
            "websocket_outlives_the_time_for_a_head",
        )
    ),
    *(
        f"tests/test_serving.py::test_{name}"
        for name in (
            "log_level",
            "it_listens_on_its_address_only",
            "busy_port_is_one_clear_line",
            "unusable_certificate_ends_the_service",
            "the_application_names_the_server",
            "serves_from_workers_of_its_own",
            "tls",
            "second_signal_skips_the_drain_delay",
            "idle_connections_do_not_hold_the_exit",
        )
    ),
)
_EQUIVALENT: Final = FOLDER / "equivalent.toml"


class FaultError(Exception):
    """A fault that cannot be planted. The text names it."""


@dataclass(frozen=True)
class Fault:
    """A change of one file that tests should notice.

    ``what``: the fault in words, empty for one that was drawn. ``file``: its path in the
    repository, where ``old`` occurs once. ``emitted``: the tests of the emitted service that should
    notice, ``project``: those of the repository; both as arguments of pytest. ``quick``: some of
    ``project`` that take seconds, and run before all. ``variant``: that which is emitted.
    """

    kind: str
    what: str
    file: str
    old: str
    new: str
    variant: Variant
    emitted: tuple[str, ...]
    project: tuple[str, ...]
    quick: tuple[str, ...] = ()

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
    elif first == "handlers" and second == WITHOUT_HANDLER:
        answers["task"] = second
    answers.update({axis: chosen[axis] for axis in AXES if chosen and axis in chosen})
    return Variant(**answers)


def tests_of(file: str) -> dict[str, tuple[str, ...]]:
    """Return the tests that should notice a fault in a module, by the names of a fault's fields."""
    _, first, second, *_ = Path(file).parts
    if first == "servers":
        quick = (*_QUICK_SERVER_TESTS, "-k", f"{second} and 1")
        return {"emitted": (), "project": (*_SERVER_TESTS, "-k", second), "quick": quick}
    if first == "runtimes":
        project = (*_RUNTIME_TESTS, "-k", f"{second} or odd_model")
        return {"emitted": ("tests/test_model.py",), "project": project}
    return {"emitted": WHOLE_SUITE, "project": ()}


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."
