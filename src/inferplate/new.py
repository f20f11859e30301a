"""Emits a new project, whole or not at all: what ``inferplate new`` does."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console

from inferplate.answers import read_answers, read_version
from inferplate.errors import InferplateError
from inferplate.git import Git
from inferplate.matrix import AXES, axis_choices, is_asked, refusal, select, variants
from inferplate.project import Project
from inferplate.releases import Releases
from inferplate.render import render
from inferplate.signals import interruptible, temporary_folder, undisturbed
from inferplate.source import (
    PUBLIC_ADDRESS,
    QUESTIONS,
    bundled_template,
    installed_version,
    template_root,
)

_MESSAGE: Final = "_message_after_copy"


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
    given: Mapping[str, str],
    ref: str | None = None,
    *,
    defaults: bool = False,
    console: Console,
) -> None:
    """Emit a project, ask for the answers that are not given, and show what comes next.

    ``given``: answers as text. ``ref``: a version, or anything else that git knows in the
    template's repository; none: the installed version. ``defaults``: ask for nothing.

    Raises:
        InferplateError, KeyboardInterrupt: nothing was left behind, for the reason in the text.
    """
    _check_free(destination)
    with interruptible(), temporary_folder() as folder:
        template = _find(ref, folder)
        questions = read_version(template.folder, template.version)
        answers = read_answers(given, questions)
        ask = not defaults and bool(_unanswered(questions, answers))
        _check(template, questions, answers, folder, ask=ask)
        if ref is None and not bundled_template():
            _tell_what_is_left_out(console)
        with _appearing(destination) as draft:
            _render(template, draft, answers, ask=ask)
            message = _message(template.folder, Project.read(draft).answers, destination)
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def _check_free(destination: Path) -> None:
    """Reject a destination that is already in use."""
    if destination.is_dir():
        if any(destination.iterdir()):
            raise InferplateError(f"{destination} is not empty: choose another folder")
        return
    for path in (destination, *destination.parents):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InferplateError(f"{path} is not a folder: choose another destination")


def _find(ref: str | None, folder: Path) -> _Template:
    """Find the template: inside the wheel, in the checkout, or at a reference of its repository."""
    bundled = bundled_template()
    if bundled and ref is None:
        return _Template(bundled, PUBLIC_ADDRESS, installed_version())
    address = PUBLIC_ADDRESS if bundled else str(template_root())
    releases = Releases(address, folder / "source")
    version = releases.resolve(ref or "HEAD")
    return _Template(releases.export(version, folder / "template"), address, version)


def _tell_what_is_left_out(console: Console) -> None:
    if Git(template_root()).text("status", "--porcelain", "--", QUESTIONS, "template"):
        console.print("The template has uncommitted changes; the service comes without them.")


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
    template: _Template, destination: Path, answers: Mapping[str, Any], *, ask: bool
) -> None:
    from copier import load_settings
    from copier.errors import SettingsError

    try:
        settings = load_settings()
    except SettingsError as error:
        raise InferplateError(f"cannot use your settings of Copier: {error}") from None
    data = {**answers, **template.origin()}
    render(template.folder, destination, data, settings=settings, ask=ask)


@contextmanager
def _appearing(destination: Path) -> Iterator[Path]:
    """Give a folder to write to, which appears at the destination when all has gone well.

    It is made beside what is there already, so that it appears by renaming.
    """
    target = destination.resolve()
    there = next(path for path in (target, *target.parents) if path.is_dir())
    try:
        with temporary_folder(".inferplate-", there) as draft:
            yield draft / target.relative_to(there)
            with undisturbed():
                for entry in draft.iterdir():
                    entry.rename(there / entry.name)
    except OSError as error:
        raise InferplateError(f"cannot write {destination}: {error.strerror}") from None


def _message(template: Path, answers: Mapping[str, Any], destination: Path) -> str:
    """Render what the template says after a copy, as Copier does, for the real destination."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    text = yaml.safe_load((template / QUESTIONS).read_bytes())[_MESSAGE]
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    environment.filters["quote"] = shlex.quote
    configuration = {"dst_path": destination}
    return environment.from_string(text).render(answers, _copier_conf=configuration).rstrip("\n")
