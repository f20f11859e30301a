"""Shows an update and applies it: what ``inferplate update`` does."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from inferplate.errors import InferplateError
from inferplate.git import without_credentials
from inferplate.project.apply import apply
from inferplate.project.lockfile import LOCKFILE, is_stale, relock
from inferplate.project.plan import Change, Plan, plan_update
from inferplate.project.project import Project
from inferplate.signals import interruptible, undisturbed

_WHAT_TO_DO: Final = {
    "contents": "choose between the marked lines",
    "add/add": "you and the template have both added it: choose between the marked lines",
    "binary": "it is not text and has your version: keep it, or take the template's",
    "distinct modes": "one is a link and one a file; they stand beside each other: keep one",
    "file/directory": "one is a file and one a folder; they stand beside each other: keep one",
    "rename/rename": "you and the template have moved it to different places: keep one",
}

_ONE_SIDE: Final = (
    "For a whole file, 'git checkout --ours FILE' keeps yours, and --theirs takes the template's."
)


def update(
    root: Path,
    switch: Mapping[str, str],
    to: str | None,
    *,
    source: str | None = None,
    dry_run: bool,
    allow_delete: bool,
    ask: bool,
    console: Console,
) -> Plan:
    """Update a project and show what changes; return what was done, or would be.

    ``ask``: ask in the terminal what is new in the target version; else its defaults are taken.

    Raises:
        InferplateError, KeyboardInterrupt: nothing was changed; the text says why.
    """
    project = Project.read(root)
    if not (dry_run or os.access(project.root, os.W_OK)):
        raise InferplateError(f"{project.root} cannot be written: nothing was changed")
    with interruptible():
        plan = plan_update(project, switch, to, source=source, allow_delete=allow_delete, ask=ask)
        _show_step(plan, console)
        if not plan.changes:
            return plan
        if plan.to_delete and not allow_delete:
            _list(console, "You have edited files that the template no longer has:", plan.to_delete)
            if not dry_run:
                raise InferplateError(
                    f"nothing was changed: save what you need of {', '.join(plan.to_delete)}, "
                    "then give --allow-delete"
                )
        _show_changes(plan, console)
        if not dry_run:
            apply(plan)
    not_locked = relock(plan) if is_stale(plan) and not dry_run else ""
    with undisturbed():
        _show_rest(plan, console)
        if not_locked:
            what_to_do = f"run 'uv lock' ({not_locked})"
            _list(console, f"{LOCKFILE} is for the old dependencies:", [what_to_do])
        if dry_run:
            console.print("This was a dry run: nothing was changed.")
            return plan
        _show_next(plan, console)
    return plan


def _show_step(plan: Plan, console: Console) -> None:
    before = plan.project.version
    if before != plan.version:
        console.print(f"From {before} to {plan.version}", highlight=False)
    changed = dict(plan.switched)
    if plan.source != plan.project.source:
        source = plan.project.source
        changed["source"] = (without_credentials(source), without_credentials(plan.source))
    for name, (old, new) in changed.items():
        console.print(f"{name}: {_shown(old)} becomes {_shown(new)}", highlight=False, markup=False)
    if not plan.changes:
        console.print(f"Nothing to do: the project is at {before}.", highlight=False)
    if plan.changelog:
        console.print(_readable(plan.changelog, console))


def _readable(changelog: str, console: Console) -> Markdown | Text:
    """Return the changelog for a console; rich's marks of lists are not in every encoding."""
    try:
        "\u2022".encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return Text(changelog)
    return Markdown(changelog)


def _show_changes(plan: Plan, console: Console) -> None:
    table = Table(title=f"{len(plan.changes)} files change")
    for heading in ("file", "template", "your edits"):
        table.add_column(heading, overflow="fold")
    for change in plan.changes:
        what = f"{change.kind} from {change.moved_from}" if change.moved_from else change.kind
        table.add_row(escape(change.path), escape(what), _edits(change, plan))
    console.print(table)


def _edits(change: Change, plan: Plan) -> str:
    if change.path in plan.conflicts:
        return "conflict"
    if not change.edited:
        return ""
    if change.kind == "deleted":
        return "deleted"
    return "replaced" if change.path == plan.project.answers_file else "merged"


def _show_rest(plan: Plan, console: Console) -> None:
    _list(
        console,
        "Still deleted, as you left them, although the template has changed them:",
        plan.stay_deleted,
    )
    new = [f"{name}: {_shown(answer)}" for name, answer in plan.taken.items()]
    _list(console, "New questions and the answers taken; 'update --set' changes them:", new)
    _list(console, "Your files that are written for the old answers; port them:", plan.to_port)
    conflicts = [
        f"{path}: {_WHAT_TO_DO.get(kind, kind)}" for path, kind in sorted(plan.conflicts.items())
    ]
    _list(console, "Conflicts; resolve them:", conflicts)


def _show_next(plan: Plan, console: Console) -> None:
    goes_on = "Look at it with 'git diff', then run"
    if plan.conflicts:
        console.print(_ONE_SIDE, markup=False, highlight=False)
        goes_on = "Then 'git add' each, run"
    console.print(f"{goes_on} 'inferplate update --continue' and commit.", highlight=False)
    here = f" -- {shlex.quote(str(plan.project.root))}" if plan.project.prefix else ""
    reset = "git reset --quiet && " if plan.conflicts else ""
    back = f"To go back instead: {reset}git stash push --include-untracked{here}"
    console.print(back, markup=False, highlight=False, soft_wrap=True)


def _list(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        console.print(title)
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _shown(answer: Any) -> str:
    return ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer)
