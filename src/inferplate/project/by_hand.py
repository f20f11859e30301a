"""Notices answers that were changed by hand: the files are still those of the answers before."""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from inferplate.errors import InferplateError
from inferplate.git import GitError
from inferplate.project.installed import Installed
from inferplate.project.project import Project
from inferplate.project.sides import Side, render_version
from inferplate.template.questions import AXES
from inferplate.template.releases import Releases

_LOOKED_AT: Final = 20
"""How many commits of the answers file are searched for one with other answers."""


def changed_by_hand(
    project: Project, releases: Releases | Installed, rendered: Side, folder: Path
) -> str:
    """Say in one line which answers were changed by hand and what to do, or nothing.

    An update changes files together with answers. So they were changed by hand if files are as
    the answers before made them, and none is as those make them that are recorded now.

    ``rendered``: what the version of the project emits for its answers. ``folder``: a new one.
    """
    with suppress(InferplateError):  # without a repository, or that version, nothing can be told
        for commit, before in _records(project):
            if (before.version, before.answers) != (project.version, project.answers):
                old = render_version(releases, before, before.version, before.answers, folder)
                return _told(project, before, commit) if _is_still(project, old, rendered) else ""
    return ""


def _records(project: Project) -> Iterator[tuple[str, Project]]:
    """Read what the answers file said in each of its last commits, the newest first."""
    listing = ("rev-list", f"--max-count={_LOOKED_AT}", "HEAD", "--", project.answers_file)
    for commit in project.git.text(*listing).split():
        with suppress(GitError, yaml.YAMLError):
            recorded = yaml.safe_load(
                project.git.raw("cat-file", "blob", f"{commit}:./{project.answers_file}")
            )
            if isinstance(recorded, dict) and "_commit" in recorded:
                answers = {key: value for key, value in recorded.items() if key[:1] != "_"}
                yield commit, replace(project, version=str(recorded["_commit"]), answers=answers)


def _is_still(project: Project, old: Side, rendered: Side) -> bool:
    """Return whether the files that differ between two renders are those of the old one."""
    as_before, as_recorded = False, False
    found = (path for side in (old, rendered) for path in side.files.rglob("*") if path.is_file())
    names = {
        path.relative_to(rendered.files if path.is_relative_to(rendered.files) else old.files)
        for path in found
    }
    for name in names:
        if (
            str(name) == project.answers_file
            or old.is_users(str(name))
            or rendered.is_users(str(name))
        ):
            continue
        before, recorded = _content(old.files / name), _content(rendered.files / name)
        if before != recorded:
            actual = _content(project.root / name)
            as_before |= actual is not None and actual == before
            as_recorded |= actual == recorded
    return as_before and not as_recorded


def _content(path: Path) -> bytes | None:
    return path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else None


def _told(project: Project, before: Project, commit: str) -> str:
    names, options = [], []
    if before.version != project.version:
        names.append("_commit")
        options += ["--to", project.version]
    for name in sorted({*before.answers, *project.answers}):
        answer = project.answers.get(name)
        if answer != before.answers.get(name):
            names.append(name)
            if answer is not None:
                options += [f"--{name}", answer] if name in AXES else ["--set", _set(name, answer)]
    steps = [f"run 'git checkout {commit[:12]} -- {project.answers_file}'", "commit it"]
    if options:
        steps.append(f"run 'inferplate update {shlex.join(map(str, options))}'")
    were = "was" if len(names) == 1 else "were"
    return (
        f"{', '.join(names)} in {project.answers_file} {were} changed by hand, and the files are "
        f"still as before: {', '.join(steps)}"
    )


def _set(name: str, answer: Any) -> str:
    return f"{name}={','.join(map(str, answer)) if isinstance(answer, list) else answer}"
