"""Checks that an update is complete: what ``inferplate update --continue`` does."""

import shutil
import subprocess

from inferplate.errors import InferplateError
from inferplate.project.conflicts import check_none_left
from inferplate.project.installed import present_version
from inferplate.project.project import Project
from inferplate.project.sides import render_version
from inferplate.signals import interruptible, temporary_folder


def check_resolved(project: Project) -> None:
    """Check that an update is complete: no conflicts are left, and the answers are as rendered.

    Raises:
        InferplateError: it is not; the text says what is left to do.
    """
    check_none_left(project)
    with interruptible(), temporary_folder() as folder:
        releases = present_version(project, folder / "source")
        rendered = render_version(
            releases, project, project.version, project.answers, folder / "new"
        )
        expected = Project.read(rendered.files)
    if expected.answers != project.answers:
        wrong = sorted(
            key
            for key in {*expected.answers, *project.answers}
            if expected.answers.get(key) != project.answers.get(key)
        )
        raise InferplateError(
            f"{project.answers_file} is not what {project.version} writes: "
            f"look at {', '.join(wrong)}"
        )


def run_suite(project: Project) -> None:
    """Run the project's tests as its Makefile does, and show their output.

    Raises:
        InferplateError: make is not installed, or they fail.
    """
    make = shutil.which("make")
    if make is None:
        raise InferplateError("make is not installed: run the tests yourself, as README.md says")
    done = subprocess.run([make, "test"], cwd=project.root, check=False)  # noqa: S603
    if done.returncode:
        raise InferplateError(f"'make test' exited with {done.returncode}; its output is above")
