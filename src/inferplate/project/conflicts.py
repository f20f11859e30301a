"""The conflicts that an update leaves in a project: git's index has both sides of each."""

from collections.abc import Mapping
from typing import Final

from inferplate.errors import InferplateError
from inferplate.git import Git
from inferplate.project.project import Project

Sides = Mapping[int, tuple[str, bytes]]
"""Mode and content of a file by git's stage: 1 the template's old one, 2 the user's, 3 the new."""

_MARKERS: Final = r"^(<{7}|>{7}) (yours|inferplate-|before updating|after updating)"
"""What a conflict begins and ends with, of ours and of Copier's own update."""


def record(git: Git, sides: Mapping[str, Sides]) -> None:
    """Write both sides of files into git's index, as a merge by git itself does.

    ``sides``: by path from the top of the repository.
    """
    nothing = "0" * len(git.text("hash-object", "--stdin"))
    lines = []
    for path, stages in sides.items():
        lines.append(f"0 {nothing}\t{path}")
        for stage, (mode, content) in stages.items():
            name = git.text("hash-object", "-w", "--stdin", given=content)
            lines.append(f"{mode} {name} {stage}\t{path}")
    given = "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")
    git.raw("update-index", "-z", "--index-info", given=given, shielded=True)


def unresolved(project: Project) -> list[str]:
    """List the files, from the project, that are in conflict in git's index or have markers."""
    git, here = project.repository, f"./{project.prefix}"
    listed = git.fields("ls-files", "--unmerged", "-z", "--full-name", "--", here)
    unmerged = {entry.partition("\t")[2] for entry in listed}
    return [path.removeprefix(project.prefix) for path in sorted({*unmerged, *_marked(project)})]


def check_none_left(project: Project) -> None:
    """Raise an error if an update has left conflicts, also if they were committed."""
    if left := unresolved(project):
        raise InferplateError(
            f"conflicts are left in {', '.join(left)}: resolve them, 'git add' each, "
            "then run 'inferplate update --continue'"
        )


def _marked(project: Project) -> list[str]:
    pattern = ("--extended-regexp", "-e", _MARKERS, "--", f"./{project.prefix}")
    options = ("--no-color", "--untracked", "--files-with-matches", "-z", "--full-name")
    return project.repository.fields("grep", *options, *pattern, accept=1)
