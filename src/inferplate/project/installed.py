"""The template inside the wheel, for what needs one version only, and so no network."""

from dataclasses import dataclass
from pathlib import Path

from inferplate.project.project import Project
from inferplate.template.releases import Releases, Unreachable
from inferplate.template.source import PUBLIC_ADDRESS, bundled_template, installed_version


@dataclass(frozen=True)
class Installed:
    """The installed version, in the place of a clone of the template's repository."""

    folder: Path
    version: str

    def commit(self, _: str) -> str:
        """Return the version, which is the only one."""
        return self.version

    def export(self, _: str, __: Path) -> Path:
        """Return the folder that the version is in already."""
        return self.folder


def installed_for(project: Project) -> Installed | None:
    """Return the installed version if the project has come from it."""
    folder = bundled_template()
    if folder is None or project.version != installed_version():
        return None
    return Installed(folder, project.version)


def present_version(project: Project, folder: Path) -> Releases | Installed:
    """Return what has the project's present version; nothing newer is looked for.

    It is the installed one, if the project comes from the public template or its own source cannot
    be reached, else a clone in `folder`.

    Raises:
        Unreachable: the source cannot be reached, and another version is installed.
    """
    installed = installed_for(project)
    if installed and project.source == PUBLIC_ADDRESS:
        return installed
    try:
        return Releases(project.origin, folder)
    except Unreachable:
        if installed is None:
            raise
        return installed
