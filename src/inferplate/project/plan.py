"""Works out what an update to another version or other answers does; the project stays as it is."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

from inferplate.errors import InferplateError
from inferplate.git import check_version, without_credentials
from inferplate.progress import step
from inferplate.project.by_hand import changed_by_hand
from inferplate.project.conflicts import Sides, check_none_left
from inferplate.project.installed import Installed, present_version
from inferplate.project.merge import Scratch, Tree
from inferplate.project.project import Project
from inferplate.project.sides import Side, render_template, render_version
from inferplate.signals import temporary_folder
from inferplate.template.answers import (
    derived_answers,
    no_longer_allowed,
    read_answers,
    read_version,
)
from inferplate.template.questions import AXES, is_asked, refusal
from inferplate.template.releases import CHANGELOG, Releases, changes_between, parse, recorded


@dataclass(frozen=True)
class Change:
    """What an update does to one file.

    ``kind``: new, changed, moved or deleted. ``edited``: the user has changed the file as well.
    """

    path: str
    kind: str
    edited: bool
    moved_from: str = ""


@dataclass(frozen=True)
class Plan:
    """What an update will do; nothing is done yet.

    ``source``: where the template will be. ``switched``: the answers that change, as old and new by
    question.
    ``conflicts``: the kind of conflict by path. ``sides``: what each side has of these files.
    ``to_delete``: files that the user has edited and the template no longer has.
    ``stay_deleted``: files that the user has deleted and the template has changed.
    ``to_port``: the user's own files that were written for the old answers.
    ``taken``: the answers to questions that are new, by question.
    ``patch``: from the project's last commit to the result.
    """

    project: Project
    version: str
    source: str
    switched: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    changelog: str = ""
    changes: list[Change] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)
    sides: dict[str, Sides] = field(default_factory=dict)
    to_delete: list[str] = field(default_factory=list)
    stay_deleted: list[str] = field(default_factory=list)
    to_port: list[str] = field(default_factory=list)
    taken: dict[str, Any] = field(default_factory=dict)
    patch: bytes = b""

    def document(self) -> dict[str, Any]:
        """Return the plan as plain data, without the patch."""
        return {
            "project": str(self.project.root),
            "from": self.project.version,
            "to": self.version,
            "source": without_credentials(self.source),
            "switched": {name: list(values) for name, values in self.switched.items()},
            "changes": [asdict(change) for change in self.changes],
            "conflicts": self.conflicts,
            "to_delete": self.to_delete,
            "stay_deleted": self.stay_deleted,
            "to_port": self.to_port,
            "taken": self.taken,
        }


def plan_update(
    project: Project,
    switch: Mapping[str, str],
    to: str | None,
    *,
    source: str | None = None,
    allow_delete: bool = False,
    ask: bool = False,
) -> Plan:
    """Render both sides, merge them, and say what comes of it.

    ``switch``: answers to change, as text. ``to``: a version, or anything else that git knows in
    the template's repository; none: the newest, or the present one where answers change.
    ``source``: another repository of the template, which the project is to come from. ``ask``: ask
    in the terminal the questions that are new; else their defaults are taken.

    Raises:
        KeyboardInterrupt: a question was not answered.
        InferplateError: the project, its source, the version or the answers do not allow it.
    """
    check_version()
    check_none_left(project)
    committed = project.committed_tree()
    moved = replace(project, source=recorded(source)) if source else project
    with temporary_folder() as folder:
        releases, version = _find(
            moved, folder / "source", to, keep=bool(switch), anew=bool(source)
        )
        template = releases.export(version, folder / "new" / "template")
        questions = read_version(template, version)
        kept = {name: value for name, value in project.answers.items() if name in questions}
        given = read_answers(switch, questions)
        derived = derived_answers(kept, questions) - {*given, *AXES} if given else set()
        answers = {name: value for name, value in kept.items() if name not in derived} | given
        if "task" not in switch and refusal(questions, answers):
            answers.pop("task", None)  # the new runtime has another by default
        switched = {
            name: (project.answers.get(name), answers[name])
            for name in switch
            if project.answers.get(name) != answers[name]
        }
        old = render_version(releases, project, project.version, project.answers, folder / "old")
        if wrong := changed_by_hand(project, releases, old, folder / "before"):
            raise InferplateError(wrong)
        if version == project.version and not switched and moved.source == project.source:
            return Plan(project, version, project.source)
        new = _render_new(template, moved, version, answers, folder / "new", questions)
        follow = Project.read(new.files).answers
        asked: list[str] = []
        if ask:
            known = read_version(old.template, project.version)
            asked = _new_questions(questions, {**known, **given}, follow)
        if asked:
            kept_answers = {name: follow[name] for name in follow if name not in asked}
            new = _render_new(
                template, moved, version, kept_answers, folder / "asked", questions, ask=True
            )
            follow = Project.read(new.files).answers
        switched |= {
            name: (kept[name], follow[name]) for name in derived if follow[name] != kept[name]
        }
        scratch = Scratch(folder / "merge", project.repository)
        changelog = _changelog(new, project.version, version)
        told = {*project.answers, *given, *asked}
        taken = {name: follow[name] for name in follow if name not in told}
        plan = Plan(project, version, moved.source, switched, changelog, taken=taken)
        with step("Merging your edits"):
            ours = scratch.read(committed)
            return _merge(plan, scratch, old, new, ours, allow_delete=allow_delete)


def _merge(
    plan: Plan, scratch: Scratch, old: Side, new: Side, ours: Tree, *, allow_delete: bool
) -> Plan:
    base, theirs = scratch.store(old.files), scratch.store(new.files)
    answers_file = plan.project.answers_file
    mine = {**ours, answers_file: base[answers_file]}
    to_port = _keep_users_files(plan, old, new, base=base, ours=mine, theirs=theirs)
    merged = scratch.merge(base, mine, theirs, f"inferplate-{plan.version}")
    set_aside = {path: entry for path, entry in ours.items() if mine[path] != entry}
    set_aside.pop(answers_file, None)
    if allow_delete:
        for path in merged.vanished:
            del merged.tree[path]
    moves = scratch.moves(ours, merged.tree)
    return replace(
        plan,
        changes=list(_changes(base | set_aside, ours, merged.tree, moves)),
        conflicts=merged.conflicts,
        sides={path: _sides(scratch, stages) for path, stages in merged.stages.items()},
        to_delete=merged.vanished,
        stay_deleted=merged.stay_deleted,
        to_port=to_port,
        patch=scratch.patch(ours, merged.tree, plan.project.prefix),
    )


def _sides(scratch: Scratch, stages: Mapping[int, str]) -> Sides:
    return {stage: (entry.split(" ")[0], scratch.content(entry)) for stage, entry in stages.items()}


def _keep_users_files(
    plan: Plan, old: Side, new: Side, *, base: Tree, ours: Tree, theirs: Tree
) -> list[str]:
    """Make both renders agree with the user on the user's own files; return what is to be ported.

    Left to the merge are a file that is seeded for the first time, and, where answers change, one
    that is still as it was seeded, or that is the user's with some answers only. If it is so with
    the old ones, the user's is kept beside the template's, by another name.
    """
    to_port = []
    for path in sorted({*base, *ours, *theirs}):
        if not (old.is_users(path) or new.is_users(path)):
            continue
        before, mine, seed = base.get(path), ours.get(path), theirs.get(path)
        if mine == before and (mine is None or plan.switched):
            continue
        if (
            "runtime" in plan.switched
            and before
            and seed
            and old.is_users(path) != new.is_users(path)
        ):
            if old.is_users(path) and mine:
                kept = _free_name(path, str(plan.switched["runtime"][0]), ours)
                ours[kept], ours[path] = mine, before
                to_port.append(kept)
            continue
        made_for_runtime = before is seed is None and "runtime" in plan.switched
        if plan.switched and mine and (before != seed or made_for_runtime):
            to_port.append(path)
        for tree in (base, theirs):
            tree.pop(path, None)
            if mine:
                tree[path] = mine
    return to_port


def _free_name(path: str, suffix: str, taken: Tree) -> str:
    """Return a path with a suffix at the end of its stem, numbered if there is such a file."""
    old = PurePosixPath(path)
    endings = chain([""], (f"_{number}" for number in count(2)))
    paths = (str(old.with_stem(f"{old.stem}_{suffix}{ending}")) for ending in endings)
    return next(path for path in paths if path not in taken)


def _changes(base: Tree, ours: Tree, result: Tree, moves: Mapping[str, str]) -> Iterator[Change]:
    moved_away = set(moves.values())
    for path in sorted({*ours, *result}):
        before, after = ours.get(path), result.get(path)
        if before == after or path in moved_away:
            continue
        origin = moves.get(path, path)
        edited = origin in ours and ours[origin] != base.get(origin)
        if path in moves:
            yield Change(path, "moved", edited, origin)
        elif before is None:
            yield Change(path, "new", edited)
        else:
            yield Change(path, "changed" if after else "deleted", edited)


def _find(
    project: Project, folder: Path, to: str | None, *, keep: bool, anew: bool
) -> tuple[Releases | Installed, str]:
    """Return the template's versions, and which of them to update to.

    ``keep``: the present one. ``anew``: the source is to be recorded, and so has to be reached.
    """
    if keep and not to and not anew:
        return present_version(project, folder), project.version
    releases = Releases(project.origin, folder)
    if keep and not to:
        return releases, project.version
    present = parse(releases.commit(project.version))
    target = releases.resolve(to) if to else releases.newest()
    wanted = parse(target)
    if not (present and wanted and wanted < present):
        return releases, target
    if to:
        raise InferplateError(
            f"{target} is older than the project's {project.version}: an update cannot go back"
        )
    return releases, project.version


def _render_new(
    template: Path,
    project: Project,
    version: str,
    answers: Mapping[str, Any],
    folder: Path,
    questions: Mapping[str, Any],
    *,
    ask: bool = False,
) -> Side:
    try:
        return render_template(template, project, version, answers, folder, ask=ask)
    except InferplateError as error:
        if refused := no_longer_allowed(answers, questions):
            raise InferplateError(f"{version} {refused}") from error
        raise InferplateError(
            f"{version} cannot be rendered with these answers: {error}"
        ) from error


def _new_questions(
    questions: Mapping[str, Any], known: Mapping[str, Any], answers: Mapping[str, Any]
) -> list[str]:
    """Name the questions that are not known and may be asked; none, if none of them is now."""
    new = {
        name: question
        for name, question in questions.items()
        if name not in known and question.get("ask") is not False
    }
    return list(new) if any(is_asked(question, answers) for question in new.values()) else []


def _changelog(new: Side, before: str, version: str) -> str:
    with suppress(FileNotFoundError):
        text = (new.template / CHANGELOG).read_text(encoding="utf-8")
        return changes_between(text, before, version)
    return ""
