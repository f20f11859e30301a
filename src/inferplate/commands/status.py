"""The state of a project: what ``inferplate status`` shows."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferplate.errors import InferplateError
from inferplate.git import without_credentials
from inferplate.project.by_hand import changed_by_hand
from inferplate.project.conflicts import unresolved
from inferplate.project.installed import installed_for
from inferplate.project.project import Project
from inferplate.project.sides import Side, render_template, render_version
from inferplate.signals import interruptible, temporary_folder
from inferplate.template.releases import Releases, Unreachable, parse

_PATIENCE: Final = 20.0
"""Seconds to wait for the template's repository."""


@dataclass(frozen=True)
class Status:
    """The state of a project.

    ``newest``: the newest released version; None if the source cannot be reached. ``edited``: what
    the user did to files of the template, by path. ``yours``: the files that no update touches.
    Both are None if that version of the template is not available. ``missing``: why any is None.
    ``conflicts``: the files in which an update has left some, also if they were committed.
    ``by_hand``: which answers were changed by hand, and what to do; nothing if none was.
    """

    project: Project
    newest: str | None
    edited: dict[str, str] | None
    yours: list[str] | None
    missing: str = ""
    conflicts: list[str] = field(default_factory=list)
    by_hand: str = ""

    @property
    def up_to_date(self) -> bool:
        """Return whether the project has the newest version; not if that is unknown."""
        return self.newest is not None and not self.behind

    @property
    def behind(self) -> bool:
        """Return whether a newer version than the project's is known."""
        if self.newest is None:
            return False
        newest, present = parse(self.newest), parse(self.project.version)
        if newest and present:
            return newest > present
        return self.newest != self.project.version

    def document(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "project": str(self.project.root),
            "source": without_credentials(self.project.source),
            "version": self.project.version,
            "newest": self.newest,
            "up_to_date": self.up_to_date,
            "answers": self.project.answers,
            "edited": self.edited,
            "yours": self.yours,
            "missing": self.missing,
            "conflicts": self.conflicts,
            "by_hand": self.by_hand,
        }

    def table(self) -> Group:
        """Return the state as a table."""
        facts = Table.grid(padding=(0, 2))
        facts.add_column(no_wrap=True)
        facts.add_column(overflow="fold")
        unknown = f"unknown: {self.missing}"
        origin = {
            "version": self.project.version,
            "newest": self.newest or unknown,
            "source": without_credentials(self.project.source),
        }
        answers = {key: _shown(value) for key, value in self.project.answers.items()}
        for name, value in {**origin, **answers}.items():
            facts.add_row(name, Text(value))
        edited = [f"{path} ({how})" for path, how in (self.edited or {}).items()]
        none = unknown if self.edited is None else "none"
        left = "Conflicts that an update left; resolve them:"
        lines = [
            *(["", f"{self.by_hand}."] if self.by_hand else ()),
            *(_section(left, self.conflicts) if self.conflicts else ()),
            *_section(
                "Files of the template that you edited; an update merges them:", edited or [none]
            ),
            *_section("Your files; an update does not touch them:", self.yours or [none]),
        ]
        return Group(facts, *(Text(line, overflow="fold") for line in lines))


def _section(title: str, paths: list[str]) -> list[str]:
    return ["", title, *(f"  {path}" for path in paths)]


def _shown(answer: Any) -> str:
    return ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer)


def status(project: Project) -> Status:
    """Return the state of a project."""
    with interruptible(), temporary_folder() as folder:
        newest, missing, by_hand = None, "", ""
        rendered: Side | None = None
        try:
            releases = Releases(project.origin, folder / "source", _PATIENCE)
            newest = releases.newest()
            rendered = render_version(releases, project, project.version, project.answers, folder)
            by_hand = changed_by_hand(project, releases, rendered, folder / "before")
        except Unreachable as error:
            rendered, missing = _render_installed(project, folder), str(error)
        except InferplateError as error:
            missing = str(error)
        edited = _edited(project, rendered) if rendered else None
        yours = _yours(project, rendered) if rendered else None
        return Status(project, newest, edited, yours, missing, _conflicts(project), by_hand)


def _render_installed(project: Project, folder: Path) -> Side | None:
    """Render the template inside the wheel, where it is the version that the project came from."""
    installed = installed_for(project)
    if installed is None:
        return None
    return render_template(installed.folder, project, project.version, project.answers, folder)


def _edited(project: Project, rendered: Side) -> dict[str, str]:
    emitted = _files(rendered.files)
    states = {path: _compare(project.root / path, rendered.files / path) for path in emitted}
    return {path: how for path, how in states.items() if how and not rendered.is_users(path)}


def _compare(actual: Path, emitted: Path) -> str:
    if not actual.is_file():
        return "deleted"
    same = _content(actual) == _content(emitted)
    return "" if same else "edited"


def _content(path: Path) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")


def _conflicts(project: Project) -> list[str]:
    with suppress(InferplateError):  # without a repository there are none
        return unresolved(project)
    return []


def _yours(project: Project, rendered: Side) -> list[str]:
    emitted = _files(rendered.files)
    try:
        listing = ("--cached", "--others", "--exclude-standard", "-z", "--", ".")
        known = project.git.fields("ls-files", *listing)
    except InferplateError:
        known = emitted
    return sorted(
        path
        for path in {*known}
        if (rendered.is_users(path) or path not in emitted) and (project.root / path).is_file()
    )


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(found)
