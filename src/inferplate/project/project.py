"""Reads an emitted project: its answers, and what git has of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from inferplate.errors import InferplateError
from inferplate.git import Git, GitError, without_credentials

ANSWERS_FILE: Final = ".copier-answers.yml"
BESIDE_ANOTHER: Final = ".copier-answers.inferplate.yml"
"""The answers file in a project where another template has taken the usual name."""
_ALWAYS_ASKED: Final = ("framework", "runtime", "server")


class OfAnotherTemplate(InferplateError):
    """The project was made from another template."""


def nearest(folder: Path) -> Path:
    """Return the project that a folder is in: itself, or the nearest above with answers in it."""
    above = (folder, *folder.resolve().parents)
    return next((path for path in above if any(path.glob(".copier-answers*.yml"))), folder)


@dataclass(frozen=True)
class Project:
    """A project as its answers file describes it.

    ``source``: where its template is, as Copier spells it. ``version``: a tag of it, as a rule.
    ``answers``: those that the template asked for. ``answers_file``: where they are recorded.
    """

    root: Path
    source: str
    version: str
    answers: dict[str, Any]
    answers_file: str = ANSWERS_FILE

    @classmethod
    def read(cls, root: Path) -> "Project":
        """Read the answers file, of which other templates may have one beside it.

        Raises:
            InferplateError: there is none, it cannot be read, or names no source and version.
            OfAnotherTemplate: it is of another template.
        """
        others = sorted(path.name for path in root.glob(".copier-answers.*.yml"))
        found: list[Project] = []
        for name in (ANSWERS_FILE, *others):
            try:
                project = cls._read(root, name)
            except InferplateError:
                if not others:
                    raise
                continue
            if not project.answers.keys().isdisjoint(_ALWAYS_ASKED):
                return project
            found.append(project)
        if not found:
            return cls._read(root, ANSWERS_FILE)
        source = without_credentials(found[0].source)
        raise OfAnotherTemplate(
            f"{root / found[0].answers_file} is of another template, {source}: "
            "it has no answers to framework, runtime and server"
        )

    @classmethod
    def _read(cls, root: Path, name: str) -> "Project":
        path = root / name
        try:
            recorded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InferplateError(
                f"{root} has no {ANSWERS_FILE}: it is not a project made from the template"
            ) from None
        except OSError as error:
            raise InferplateError(f"cannot read {path}: {error.strerror}") from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise InferplateError(f"{path} is not YAML: {error}") from None
        origin = recorded if isinstance(recorded, dict) else {}
        source, version = origin.get("_src_path"), origin.get("_commit")
        if not source or not version:
            raise InferplateError(
                f"{path} does not record '_src_path' and '_commit': "
                "it was not made from a version of the template"
            )
        answers = {key: value for key, value in origin.items() if not key.startswith("_")}
        return cls(root.resolve(), str(source), str(version), answers, name)

    @property
    def origin(self) -> str:
        """Return where the template is; a relative path is relative to the project."""
        path = self.root / self.source
        is_path = "://" not in self.source and path.exists()
        return str(path.resolve()) if is_path else self.source

    @property
    def git(self) -> Git:
        """Return git in the project."""
        return Git(self.root)

    @cached_property
    def repository(self) -> Git:
        """Return git at the top of the repository that the project is in.

        Raises:
            InferplateError: it is not in one.
        """
        return Git(Path(self._ask("--show-toplevel")))

    @cached_property
    def prefix(self) -> str:
        """Return where the project is in its repository: nothing, or ``folder/``.

        Raises:
            InferplateError: it is not in one.
        """
        return self._ask("--show-prefix")

    def committed_tree(self) -> str:
        """Return the object name of the project's tree in the last commit.

        Raises:
            InferplateError: something is not committed.
        """
        status = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        changed = self.repository.fields(*status, "--", f"./{self.prefix}")
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise InferplateError(
                f"{self.root} has uncommitted changes ({changed[0][3:]}{more}): "
                "commit or stash them first"
            )
        try:
            return self.repository.text("rev-parse", "--verify", f"HEAD:{self.prefix}")
        except GitError:
            raise InferplateError(f"{self.root} is not in any commit: commit it first") from None

    def _ask(self, question: str) -> str:
        try:
            return self.git.text("rev-parse", question)
        except GitError as error:
            if "not a git repository" not in str(error):
                raise
            raise InferplateError(
                f"{self.root} is not in a git repository: run 'git init', add and commit it first"
            ) from None
