"""Renders a project once more, to tell the template's part in it from the user's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferplate.project.installed import Installed
from inferplate.project.project import Project
from inferplate.template.ownership import users_files
from inferplate.template.releases import Releases
from inferplate.template.render import render


@dataclass(frozen=True)
class Side:
    """A version of the template, and what it emits for a project's answers.

    ``is_users``: returns whether the file of a path is the user's own.
    """

    template: Path
    files: Path
    is_users: Callable[[str], bool]


def render_version(
    releases: Releases | Installed,
    project: Project,
    version: str,
    answers: Mapping[str, Any],
    folder: Path,
) -> Side:
    """Render a released version into a folder, as Copier would.

    Raises:
        InferplateError: the source does not have the version, or it cannot be rendered.
    """
    template = releases.export(version, folder / "template")
    return render_template(template, project, releases.commit(version), answers, folder)


def render_template(
    template: Path,
    project: Project,
    version: str,
    answers: Mapping[str, Any],
    folder: Path,
    *,
    ask: bool = False,
) -> Side:
    """Render a template that lies in a folder, and record the project's source and this version.

    ``ask``: ask for the other answers in the terminal.

    Raises:
        InferplateError: it cannot be rendered.
        KeyboardInterrupt: a question was not answered.
    """
    origin = {"_src_path": project.source, "_commit": version}
    data = {**answers, **origin}
    named = project.answers_file
    files = render(template, folder / "files", data, ask=ask, answers_file=named)
    return Side(template, files, users_files(template, Project.read(files).answers))
