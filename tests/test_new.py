"""``inferplate new``: a project that updates know, or one line and nothing left behind."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import copier
import pytest
import yaml
from conftest import Run
from history import (
    NEWEST,
    OLDEST,
    PREVIOUS,
    commit,
    edit,
    files,
    history,
    last,
    new,
    repository,
)
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from inferplate import new as new_module
from inferplate.apply import apply
from inferplate.git import Git
from inferplate.plan import plan_update
from inferplate.project import Project
from inferplate.render import render
from inferplate.source import PUBLIC_ADDRESS
from inferplate.workbench import Workbench

ENTER, CTRL_C = "\r", "\x03"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, without Copier settings of the developer's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def wheel(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tool take the template as from a wheel of the oldest version."""
    monkeypatch.setattr(new_module, "bundled_template", lambda: template)
    monkeypatch.setattr(new_module, "installed_version", lambda: OLDEST)


@pytest.fixture
def checkout(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the tool take the template as from a checkout, which the test may change."""
    folder = Path(shutil.copytree(history(bench), tmp_path / "checkout"))
    monkeypatch.setattr(new_module, "template_root", lambda: folder)
    return folder


@contextmanager
def typed(keys: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Press keys in a terminal, and close it."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
        keyboard.send_text(keys)
        keyboard.close()
        yield


@pytest.mark.usefixtures("wheel")
def test_what_is_given_is_not_asked_and_the_rest_is(
    inferplate: Run, monkeypatch: pytest.MonkeyPatch, template: Path, tmp_path: Path
) -> None:
    given = ["--framework", "ninja", "--name", "Iris", "--set", "licence=MIT", "--set", "deploy="]
    with typed(f"\x1b[B{ENTER}" + ENTER * 3, monkeypatch):  # the second runtime, and three defaults
        code, printed, error = inferplate("new", "iris", *given)
    assert (code, error) == (0, "")
    answers = Project.read(Path("iris")).answers
    assert (answers["framework"], answers["runtime"]) == ("ninja", "pytorch")
    expected = {"framework": "ninja", "runtime": "pytorch", "project_name": "Iris"}
    origin = {"_src_path": PUBLIC_ADDRESS, "_commit": OLDEST, "licence": "MIT", "deploy": []}
    assert files(Path("iris")) == files(render(template, tmp_path / "same", expected | origin))
    assert printed.count("Iris is ready. Next:") == 1


@pytest.mark.usefixtures("wheel")
def test_the_defaults_may_be_the_users_own(inferplate: Run, tmp_path: Path) -> None:
    edit(tmp_path, {"config/copier/settings.yml": new("defaults: {author: Ada}\n")})
    assert inferplate("new", "service", "--defaults")[0] == 0
    assert Project.read(Path("service")).answers["author"] == "Ada"
    edit(tmp_path, {"config/copier/settings.yml": new("defaults: []\n")})
    code, _, error = inferplate("new", "other", "--defaults")
    assert (code, error.count("\n")) == (1, 1)
    assert "cannot use your settings of Copier" in error


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("destination", ["service", "a/b c/it's", ".", "empty", "a/../b"])
def test_it_is_put_where_it_is_wanted_and_says_what_comes_next(
    destination: str, inferplate: Run, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    if destination == ".":
        Path("empty").rmdir()
    code, printed, error = inferplate("new", destination, "--defaults")
    assert (code, error) == (0, "")
    assert (Path(destination).resolve() / ".copier-answers.yml").is_file()
    shutil.rmtree(Path(destination).resolve().joinpath("src"))
    Path("a").mkdir(exist_ok=True)
    copier.run_copy(str(template), destination, defaults=True, overwrite=True)
    assert printed.strip() in capsys.readouterr().err
    commands = [line for line in printed.splitlines() if line.startswith("  ")]
    assert len(commands) == 3
    hidden = [path.name for path in Path().rglob(".inferplate*")]
    assert hidden == []


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no such framework": (["--framework", "fastpi"], "unknown framework 'fastpi': did you mean"),
    "no such question": (["--set", "licens=MIT"], "unknown answer 'licens': did you mean 'lic"),
    "no such choice": (["--set", "deploy=compos"], "unknown deploy 'compos': did you mean 'comp"),
    "a name that cannot be": (["--name", "🌸"], "'project_name': use at least one letter"),
    "a computed answer": (["--set", "slug=mine"], "unknown answer 'slug'"),
    "no answer": (["--set", "licence"], "give it as KEY=VALUE"),
    "an answer given twice": (["--name", "a", "--set", "project_name=b"], "project_name is given"),
    "a folder in use": (["--defaults", "../used"], "../used is not empty"),
    "a file": (["--defaults", "../used/file"], "../used/file is not a folder"),
    "a folder in a file": (["--defaults", "../used/file/a"], "../used/file is not a folder"),
    "a link to nowhere": (["--defaults", "../link"], "../link is not a folder"),
    "a folder that is closed": (["--defaults", "/proc/service"], "cannot write /proc/service"),
    "no terminal": ([], "no terminal to ask for project_name, framework, runtime, server, task, "),
}


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(("arguments", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_in_a_line(
    arguments: list[str], message: str, inferplate: Run, work: Path, tmp_path: Path
) -> None:
    edit(tmp_path, {"used/file": new("mine\n")})
    (tmp_path / "link").symlink_to("nowhere")
    destination = [] if arguments[-1:] and "/" in arguments[-1] else ["service"]
    code, printed, error = inferplate("new", *destination, *arguments)
    assert (code, printed, error.count("\n")) == (1, "", 1)
    assert message in error
    assert list(work.iterdir()) == []
    assert files(tmp_path) == {"used/file": b"mine\n"}


@pytest.mark.usefixtures("wheel")
def test_answers_are_checked_before_others_are_asked(
    inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    with typed("", monkeypatch):
        code, _, error = inferplate("new", "service", "--set", "author= me")
    assert (code, error.count("\n")) == (1, 1)
    assert "'author': remove the blanks at the beginning" in error
    assert list(work.iterdir()) == []


def test_a_combination_that_is_disabled_is_refused(
    template: Path, tmp_path: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    folder = Path(shutil.copytree(template, tmp_path / "disabled"))
    questions = yaml.safe_load((folder / "copier.yml").read_bytes())
    reason = "{% if framework == 'ninja' %}not this one{% endif %}"
    choices = questions["server"]["choices"]
    label = next(label for label, value in choices.items() if value == "hypercorn")
    choices[label] = {"value": "hypercorn", "validator": reason}
    (folder / "copier.yml").write_text(yaml.safe_dump(questions, sort_keys=False))
    monkeypatch.setattr(new_module, "bundled_template", lambda: folder)
    given = ["--framework", "ninja", "--server", "hypercorn"]
    with typed("", monkeypatch):
        code, _, error = inferplate("new", "service", *given)
    assert (code, error.count("\n")) == (1, 1)
    assert "server=hypercorn: not this one" in error
    assert list(work.iterdir()) == []


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("key", [CTRL_C, ""], ids=["Ctrl-C", "closed"])
def test_a_question_that_is_not_answered_leaves_nothing(
    key: str, inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    with typed(ENTER + key, monkeypatch):
        code, _, error = inferplate("new", "a/service")
    assert (code, error) == (130, "inferplate: interrupted\n")
    assert list(work.iterdir()) == []


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_leaves_nothing(
    ending: str, inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    def stop(template: Path, destination: Path, *_: Any, **__: Any) -> None:
        edit(destination, {"src/service/app.py": new("half of it")})
        os.kill(os.getpid(), signal.Signals[ending])

    monkeypatch.setattr(new_module, "render", stop)
    code, _, error = inferplate("new", "a/service", "--defaults")
    assert (code, error) == (130, "inferplate: interrupted\n")
    assert list(work.iterdir()) == []


BAD_TEMPLATES = {
    "fails half way": ({"template/service/z.txt.jinja": new("{{ 1 / 0 }}")}, "division by zero"),
    "needs trust": ({"copier.yml": last("_tasks: [touch /tmp/ran]")}, "unsafe feature: tasks"),
    "cannot be read": ({"copier.yml": new("a: b: c")}, "has no questions: "),
}


@pytest.mark.parametrize(("edits", "message"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_a_template_that_cannot_be_rendered_leaves_nothing(
    edits: Any, message: str, checkout: Path, inferplate: Run, work: Path
) -> None:
    edit(checkout, edits)
    commit(Git(checkout), "bad")
    code, _, error = inferplate("new", "a/service", "--defaults")
    assert (code, error.count("\n")) == (1, 1)
    assert message in error
    assert list(work.iterdir()) == []


def test_from_a_checkout_it_is_what_copier_makes_of_it(
    checkout: Path, inferplate: Run, work: Path
) -> None:
    edit(checkout, {"template/service/LICENSE.jinja": last("between releases")})
    commit(Git(checkout), "between releases")
    copier.run_copy(str(checkout), "same", vcs_ref="HEAD", defaults=True, quiet=True)
    edit(checkout, {"template/service/LICENSE.jinja": last("not committed")})
    code, printed, _ = inferplate("new", "service", "--defaults")
    assert code == 0
    assert "uncommitted changes; the service comes without them" in printed
    project = Project.read(work / "service")
    assert (project.source, project.version[:9]) == (str(checkout), f"{NEWEST}-1-")
    assert files(work / "service") == files(work / "same")


def test_a_version_of_the_repository_is_taken_and_updated(
    checkout: Path, inferplate: Run, work: Path
) -> None:
    code, _, error = inferplate("new", "service", "--defaults", "--ref", "0.2.1")
    assert (code, list(work.iterdir())) == (1, [])
    assert error == "inferplate: there is no version '0.2.1': the nearest is v0.2.0 or v0.3.0\n"
    for ref in ("0.2", "main"):
        assert inferplate("new", ref, "--defaults", "--ref", ref)[0] == 0
    assert Project.read(work / "main").version == NEWEST
    assert Project.read(work / "0.2").version == PREVIOUS
    repository(work / "0.2")
    apply(plan_update(Project.read(work / "0.2"), {}, None))
    seeded = {"train.py": files(work / "0.2")["train.py"]}
    assert files(work / "0.2") == files(work / "main") | seeded
