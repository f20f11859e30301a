"""Runs the ``git`` program, for repositories that are named, not guessed from the environment."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inferplate.children import run
from inferplate.errors import InferplateError

_NEEDED: Final = (2, 38)
_TRUST: Final = re.compile(r"git config --global --add safe\.directory .+")
"""What git proposes where a repository belongs to another user."""
_CREDENTIALS: Final = re.compile(r"(\bhttps?://)[^/\s]*@")
_NOT_INHERITED: Final = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DEFAULT_HASH",
        "GIT_DIFF_OPTS",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_GLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
        "GIT_INDEX_FILE",
        "GIT_LITERAL_PATHSPECS",
        "GIT_NAMESPACE",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)
"""Variables that name another repository, or change what a command does."""

_FIXED: Final = {
    "color.ui": "false",
    "column.ui": "never",
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "submodule.recurse": "false",
}
"""Settings that stand for the user's in every command, because they change what it says."""

_ALONE: Final = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_KEY_0": "core.attributesFile",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_CONFIG_VALUE_0": os.devnull,
}
"""Variables that keep the settings and attributes of the user and the machine away."""


class GitError(InferplateError):
    """A git command failed; the text is what git said last."""


@dataclass(frozen=True)
class Git:
    """Git in one folder.

    ``environment``: variables for git beside those of this process.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def bare(cls, folder: Path, environment: Mapping[str, str] | None = None) -> "Git":
        """Name a bare repository of our own to git; no settings but its own count in it.

        ``safe.bareRepository=explicit`` wants that it is named.
        """
        return cls(folder, {**_ALONE, **(environment or {}), "GIT_DIR": str(folder)})

    def raw(
        self,
        *arguments: str,
        given: bytes = b"",
        accept: int = 0,
        timeout: float | None = None,
        shielded: bool = False,
    ) -> bytes:
        """Run a command and return what it prints.

        ``accept``: the highest exit code that is not an error. ``shielded``: from Ctrl-C.

        Raises:
            GitError: it failed, took longer than `timeout` seconds, or git is not installed.
        """
        try:
            code, output, said = run(
                ["git", *_settings(), *arguments],
                cwd=self.folder,
                env=self._environment(),
                given=given,
                timeout=timeout,
                shielded=shielded,
            )
        except FileNotFoundError:
            raise GitError("git is not installed") from None
        except subprocess.TimeoutExpired:
            raise GitError(f"git {arguments[0]} took longer than {timeout:g} s") from None
        if not 0 <= code <= accept:
            reason = without_credentials(_reason(said.decode("utf-8", "replace")))
            raise GitError(f"git {arguments[0]}: {reason}")
        return output

    def text(self, *arguments: str, given: bytes = b"", timeout: float | None = None) -> str:
        """Run a command and return what it prints as text without the last line end."""
        output = self.raw(*arguments, given=given, timeout=timeout)
        return output.decode("utf-8", "surrogateescape").rstrip("\n")

    def fields(self, *arguments: str, accept: int = 0) -> list[str]:
        """Run a command that ends each of its fields with NUL."""
        output = self.raw(*arguments, accept=accept).decode("utf-8", "surrogateescape")
        return output.split("\0")[:-1]

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if name not in _NOT_INHERITED
        }
        return {
            **inherited,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            **self.environment,
        }


def check_version() -> None:
    """Check that git can merge trees without a working tree.

    Raises:
        GitError: it is too old, or not installed.
    """
    said = Git(Path.cwd()).text("version")
    found = re.search(r"(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _NEEDED:
        needed = ".".join(map(str, _NEEDED))
        raise GitError(f"git {needed} or newer is needed to merge, this is {found[0]}: upgrade git")


def without_credentials(text: str) -> str:
    """Return a text as it may be shown: addresses in it without user and password or token."""
    return _CREDENTIALS.sub(r"\1", text)


def _settings() -> list[str]:
    return [part for key, value in _FIXED.items() for part in ("-c", f"{key}={value}")]


def _reason(said: str) -> str:
    """Choose the line that says why: for ssh, the one before git's own."""
    if trust := _TRUST.search(said):
        return f"the repository belongs to another user; if you trust it, run '{trust[0].strip()}'"
    lines = [line.strip() for line in said.splitlines() if line.strip(" @")]
    fatal = [number for number, line in enumerate(lines) if line.startswith("fatal:")]
    if not fatal:
        return lines[-1] if lines else "no reason given"
    last = fatal[-1]
    return lines[last - 1 if last and "Could not read from remote" in lines[last] else last]
