"""Emits a new project, all or nothing: what ``inferplate new`` does."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from inferplate.errors import InferplateError
from inferplate.git import Git, GitError, without_credentials
from inferplate.project.first_commit import commit_all, in_repository
from inferplate.project.place import (
    appearing,
    check_destination,
    leave_out,
    nearest_folder,
    overwritten,
)
from inferplate.project.project import BESIDE_ANOTHER, OfAnotherTemplate, Project
from inferplate.signals import interruptible, temporary_folder
from inferplate.template.answers import read_answers, read_version
from inferplate.template.questions import AXES, axis_choices, is_asked, refusal
from inferplate.template.releases import Releases, recorded
from inferplate.template.render import render
from inferplate.template.source import (
    PUBLIC_ADDRESS,
    QUESTIONS,
    bundled_template,
    installed_version,
    template_root,
)
from inferplate.template.variants import select, variants

_LEFT_OUT: Final = "The template has uncommitted changes; the service comes without them."
_MESSAGE: Final = "_message_after_copy"
_TUTORIAL: Final = "https://github.com/inferplate/inferplate/blob/main/docs/tutorial.md"
_SHOWN: Final = 5
"""How many files an error names."""


@dataclass(frozen=True)
class Made:
    """A project that was made.

    ``kept``: files that were there already, and that the template has as well. ``committed``:
    whether it is a git repository of its own with a first commit. ``remarks``: what the user
    should know, one line each. ``message``: what comes next.
    """

    project: Project
    kept: list[str]
    committed: bool
    remarks: list[str]
    message: str

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "project": str(self.project.root),
            "source": without_credentials(self.project.source),
            "version": self.project.version,
            "answers": self.project.answers,
            "kept": self.kept,
            "committed": self.committed,
            "remarks": self.remarks,
        }


@dataclass(frozen=True)
class _Template:
    """A version of the template in a folder, with the address of the repository that has it."""

    folder: Path
    address: str
    version: str

    def origin(self) -> dict[str, str]:
        return {"_src_path": self.address, "_commit": self.version}


def new(
    destination: Path,
    given: Mapping[str, Any],
    ref: str | None = None,
    *,
    source: str | None = None,
    defaults: bool = False,
    keep: bool = False,
    git: bool = True,
) -> Made:
    """Emit a project, and ask for the answers that are not given.

    ``given``: answers as text. ``ref``: a version, or anything else that git knows in the
    template's repository; none: the installed version, or the newest of another source.
    ``source``: another repository of the template. ``defaults``: ask for nothing. ``keep``: files
    that are there already stay as they are. ``git``: make it a repository with a first commit,
    unless it is inside one.

    Raises:
        InferplateError, KeyboardInterrupt: nothing was left behind, for the reason in the text.
    """
    check_destination(destination)
    answers_file = _answers_file(destination)
    with interruptible(), temporary_folder() as folder:
        template = _find(source, ref, folder)
        questions = read_version(template.folder, template.version)
        answers = read_answers(given, questions)
        ask = not defaults and bool(_unanswered(questions, answers))
        _check(template, questions, answers, folder, ask=ask)
        with appearing(destination) as draft:
            proposed = _proposed(destination)
            _render(template, draft, answers, proposed, ask=ask, answers_file=answers_file)
            message = _message(template.folder, Project.read(draft).answers, destination)
            kept = overwritten(draft, destination)
            if "README.md" in kept:
                message = _without_readme(message)
            if kept and not keep:
                _refuse_or_ask(kept, destination, ask=ask)
            leave_out(draft, destination)
            refused = _commit(draft, destination, template) if git else ""
        remarks = [refused] if refused else []
        if ref is source is None and not bundled_template() and _has_uncommitted_changes():
            remarks.append(_LEFT_OUT)
    return Made(Project.read(destination.resolve()), kept, git and not refused, remarks, message)


def _answers_file(destination: Path) -> str | None:
    """Return where to record the answers if another template has taken the usual place."""
    if not any(destination.glob(".copier-answers*.yml")):
        return None
    try:
        Project.read(destination)
    except OfAnotherTemplate:
        return BESIDE_ANOTHER
    except InferplateError:
        pass
    raise InferplateError(f"{destination} is a project already: 'inferplate update' changes it")


def _proposed(destination: Path) -> dict[str, str]:
    """Return the title that the folder's name suggests: ``fraud-scoring`` is "Fraud scoring"."""
    words = " ".join(destination.resolve().name.replace("-", " ").replace("_", " ").split())
    return {"project_name": words[:1].upper() + words[1:]} if words else {}


def _refuse_or_ask(there: list[str], destination: Path, *, ask: bool) -> None:
    shown = ", ".join(there[:_SHOWN])
    if len(there) > _SHOWN:
        shown += f" and {len(there) - _SHOWN} more"
    if ask and _agrees(f"{destination} has {shown}. Keep yours, instead of the template's?"):
        return
    raise InferplateError(
        f"{shown} would be overwritten in {destination}: move away what you do not need, "
        "or keep all of yours with --keep"
    )


def _agrees(question: str) -> bool:
    import questionary

    try:
        return bool(questionary.confirm(question, default=True).unsafe_ask())
    except EOFError:
        raise KeyboardInterrupt from None


def _commit(draft: Path, destination: Path, template: _Template) -> str:
    """Make the draft a repository of its own with a first commit; return why it is not, if so."""
    target = destination.resolve()
    if in_repository(nearest_folder(target), target):
        return _inside(draft, target)
    try:
        commit_all(draft, f"Make the service with inferplate {template.version}")
    except GitError as error:
        return f"There is no first commit, which updates need ({error}): make it yourself."
    return ""


def _inside(draft: Path, target: Path) -> str:
    """Say what is left to do for a project in an existing repository."""
    told = "It is in a git repository already: commit it there."
    git = Git(nearest_folder(target))
    try:
        top = Path(git.text("rev-parse", "--show-toplevel")).resolve()
    except GitError:
        return told
    place = target.relative_to(top).as_posix() if target.is_relative_to(top) else "."
    if place == ".":
        return told
    if (draft / ".github/workflows").is_dir():
        return (
            f"{told} GitHub runs workflows at its top only: move {place}/.github/workflows/ to "
            f".github/workflows/, and give each 'defaults: {{run: {{working-directory: {place}}}}}'"
            f" and ci.yml 'paths: [{place}/**]' below push and pull_request."
        )
    if (draft / ".gitlab-ci.yml").is_file():
        return (
            f"{told} GitLab reads .gitlab-ci.yml at its top only: write one there with "
            f"'include: {place}/.gitlab-ci.yml', and in this begin each before_script with "
            f"'cd {place}' and give each rule 'changes: [{place}/**/*]'."
        )
    return told


def _find(source: str | None, ref: str | None, folder: Path) -> _Template:
    """Find the template: in the wheel, in the checkout, or at a reference of a repository."""
    bundled = bundled_template()
    if bundled and ref is source is None:
        return _Template(bundled, PUBLIC_ADDRESS, installed_version())
    own = PUBLIC_ADDRESS if bundled else str(template_root())
    address = recorded(source) if source else own
    releases = Releases(address, folder / "source")
    version = releases.resolve(ref or "HEAD") if ref or not source else releases.newest()
    return _Template(releases.export(version, folder / "template"), address, version)


def _has_uncommitted_changes() -> bool:
    return bool(Git(template_root()).text("status", "--porcelain", "--", QUESTIONS, "template"))


def _unanswered(questions: Mapping[str, Any], answers: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, question in questions.items()
        if name not in answers and question.get("ask") is not False and is_asked(question, answers)
    ]


def _check(
    template: _Template,
    questions: Mapping[str, Any],
    answers: Mapping[str, Any],
    folder: Path,
    *,
    ask: bool,
) -> None:
    """Check what is given before anything is asked."""
    if reason := refusal(questions, answers):
        raise InferplateError(reason)
    wanted = {axis: [answers[axis]] for axis in AXES if axis in answers}
    select(variants(questions), wanted, axis_choices(questions))
    if not ask:
        return
    if texts := {name: answer for name, answer in answers.items() if name not in AXES}:
        render(template.folder, folder / "check", texts)
    if not sys.stdin.isatty():
        missing = ", ".join(_unanswered(questions, answers))
        raise InferplateError(f"no terminal to ask for {missing}: give them, or --defaults")


def _render(
    template: _Template,
    destination: Path,
    answers: Mapping[str, Any],
    proposed: Mapping[str, str],
    *,
    ask: bool,
    answers_file: str | None,
) -> None:
    from copier import load_settings
    from copier.errors import SettingsError

    try:
        settings = load_settings()
    except SettingsError as error:
        raise InferplateError(f"cannot use your settings of Copier: {error}") from None
    data = {**answers, **template.origin()}
    try:
        render(
            template.folder,
            destination,
            data,
            proposed,
            settings=settings,
            ask=ask,
            answers_file=answers_file,
        )
    except InferplateError as error:
        if "project_name" in answers or "'project_name'" not in str(error):
            raise
        if not ask:
            raise InferplateError(
                f"cannot make a title from the folder's name ({error}): give one with --name"
            ) from error
        render(
            template.folder,
            destination,
            data,
            settings=settings,
            ask=True,
            answers_file=answers_file,
        )


def _without_readme(message: str) -> str:
    """Point to the tutorial instead of to the README, where the user's own is kept."""
    paragraphs = message.split("\n\n")
    told = [text for text in paragraphs if not text.startswith("README.md ")]
    instead = f"README.md is yours; how to serve your own model is here:\n{_TUTORIAL}"
    return "\n\n".join([*told, instead])


def _message(template: Path, answers: Mapping[str, Any], destination: Path) -> str:
    """Render what the template says after a copy, as Copier does, for the real destination."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    text = yaml.safe_load((template / QUESTIONS).read_bytes())[_MESSAGE]
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    environment.filters["quote"] = shlex.quote
    configuration = {"dst_path": destination}
    return environment.from_string(text).render(answers, _copier_conf=configuration).rstrip("\n")
