"""The released versions of a template: the tags of its git repository, and their changes."""

import difflib
import io
import re
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from inferplate.errors import InferplateError
from inferplate.git import Git, GitError, without_credentials
from inferplate.progress import step

CHANGELOG: Final = "CHANGELOG.md"
_ALIASES: Final = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}
_DESCRIBED: Final = re.compile(r"-(\d+)-g[0-9a-f]+\Z")
_SECTION: Final = re.compile(r"^## \[?([^\]\s]+)\]?.*$", re.MULTILINE)


class Unreachable(InferplateError):
    """The template's repository cannot be reached."""


class Releases:
    """A clone of the template's repository."""

    def __init__(self, source: str, folder: Path, timeout: float = 300) -> None:
        """Clone the source into a folder.

        Raises:
            Unreachable: it cannot be reached within `timeout` seconds, or is not a git repository.
        """
        self.shown: Final = without_credentials(source)
        try:
            clone = ("clone", "--quiet", "--bare", "--", address(source), str(folder))
            with step("Fetching the template"):
                Git(Path.cwd()).raw(*clone, timeout=timeout)
        except GitError as error:
            raise Unreachable(f"cannot reach the template at {self.shown}: {error}") from None
        self._git = Git.bare(folder)

    @cached_property
    def tags(self) -> list[str]:
        """List the tags that are versions, the oldest first."""
        return by_version(self._git.text("tag", "--list").splitlines())

    def newest(self) -> str:
        """Return the newest released version; the newest commit where nothing is released."""
        return newest(self.tags) or self.commit("HEAD")

    def find(self, version: str) -> str:
        """Return the tag of a version, which may be given as ``0.2`` for ``v0.2.0``.

        Raises:
            InferplateError: there is none; the text names the nearest.
        """
        tags = self.tags
        asked = parse(version)
        alike = next((tag for tag in tags if parse(tag) == asked), None)
        found = version if version in tags else alike
        if found is None:
            raise InferplateError(f"there is no version {version!r}: {_nearest(version, tags)}")
        return found

    def resolve(self, reference: str) -> str:
        """Return, as Copier records it, what a version, a branch or a commit is.

        Raises:
            InferplateError: the repository has none; the text names the nearest version.
        """
        try:
            return self.find(reference)
        except InferplateError as unknown:
            with suppress(InferplateError):
                return self.commit(reference)
            raise unknown

    def commit(self, version: str) -> str:
        """Return a version as Copier records it: its tag, or how git describes the commit.

        Raises:
            InferplateError: the repository does not have it.
        """
        if version in self.tags:
            return version
        try:
            return self._git.text(
                "describe", "--tags", "--always", "--end-of-options", f"{version}^{{commit}}"
            )
        except GitError:
            raise InferplateError(f"{self.shown} has no version {version!r}") from None

    def export(self, version: str, folder: Path) -> Path:
        """Write the files of a version into a folder, without git.

        Raises:
            InferplateError: the repository does not have the version, or it has a link that leads
                out of it.
        """
        archive = self._git.raw("archive", "--format=tar", self.commit(version))
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise InferplateError(f"{self.shown} {version} cannot be used: {error}") from None
        return folder


def released(source: str, timeout: float = 3) -> list[str]:
    """List the versions that a source has, the oldest first, without a clone of it.

    Raises:
        GitError: it cannot be reached within `timeout` seconds.
    """
    listing = ("ls-remote", "--tags", "--refs", "--", address(source))
    lines = Git(Path.cwd()).text(*listing, timeout=timeout).splitlines()
    return by_version([line.rpartition("/")[2] for line in lines])


def recorded(source: str) -> str:
    """Return a source as a project is to record it: a path from anywhere, not from here only."""
    path = Path(source).expanduser()
    return str(path.resolve()) if "://" not in source and path.exists() else source


def address(source: str) -> str:
    """Return a source as git spells it, from how Copier does."""
    for alias, host in _ALIASES.items():
        if source.startswith(alias):
            return f"{host}{source.removeprefix(alias).strip('/').removesuffix('.git')}.git"
    if source.startswith("~"):
        return str(Path(source).expanduser())
    return source.removeprefix("git+")


def newest(tags: Sequence[str]) -> str | None:
    """Return the last of sorted tags that is not a pre-release."""
    return next((tag for tag in reversed(tags) if not Version(tag).is_prerelease), None)


def by_version(tags: Sequence[str]) -> list[str]:
    """Sort the tags that are versions, the oldest first."""
    versions = {tag: parsed for tag in tags if (parsed := parse(tag))}
    return sorted(versions, key=lambda tag: versions[tag])


def parse(version: str) -> Version | None:
    """Parse a tag, or what git says of a commit after one; None: it is neither.

    A version has a dot in it: the abbreviation of a commit may be digits alone.
    """
    if "." not in version:
        return None
    try:
        return Version(_DESCRIBED.sub(r".post\1", version))
    except InvalidVersion:
        return None


def changes_between(changelog: str, old: str, new: str) -> str:
    """Cut the sections out of a changelog that are newer than one version and in the other."""
    after, until = parse(old), parse(new)
    if after is None or until is None:
        return ""
    headings = list(_SECTION.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    sections = [
        changelog[heading.start() : end].strip()
        for heading, end in zip(headings, ends, strict=True)
        if (version := parse(heading[1])) and after < version <= until
    ]
    return "\n\n".join(sections)


def _nearest(version: str, tags: Sequence[str]) -> str:
    if not tags:
        return "nothing is released yet"
    asked = parse(version)
    if asked is None:
        close = difflib.get_close_matches(version, tags, n=1, cutoff=0.5)
        return f"did you mean {(close or tags[-1:])[0]}?"
    before = [tag for tag in tags if Version(tag) < asked][-1:]
    after = [tag for tag in tags if Version(tag) > asked][:1]
    return f"the nearest is {' or '.join(before + after)}"
