"""``inferplate new``: a project that updates know, or one line and nothing left behind."""

import json
import os
import shutil
import signal
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
from terminal import CTRL_C, ENTER, typed

from inferplate.commands import new as new_module
from inferplate.git import Git
from inferplate.project.apply import apply
from inferplate.project.plan import plan_update
from inferplate.project.project import Project
from inferplate.template.render import render
from inferplate.template.source import PUBLIC_ADDRESS, installed_version
from inferplate_tools.workbench import Workbench


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
    code, printed, error = inferplate("new", destination, "--defaults", "--no-git")
    assert (code, error) == (0, "")
    assert (Path(destination).resolve() / ".copier-answers.yml").is_file()
    shutil.rmtree(Path(destination).resolve().joinpath("src"))
    Path("a").mkdir(exist_ok=True)
    data = {"project_name": Project.read(Path(destination)).answers["project_name"]}
    copier.run_copy(str(template), destination, data, defaults=True, overwrite=True)
    assert printed.strip() in capsys.readouterr().err
    commands = [line for line in printed.splitlines() if line.startswith("  ")]
    assert len(commands) == (2 if destination == "." else 3)
    hidden = [path.name for path in Path().rglob(".inferplate*")]
    assert hidden == []


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no such framework": (["--framework", "fastpi"], "unknown framework 'fastpi': did you mean"),
    "no such question": (["--set", "licens=MIT"], "unknown answer 'licens': did you mean 'lic"),
    "no such choice": (["--set", "deploy=compos"], "unknown deploy 'compos': did you mean 'comp"),
    "a name that cannot be": (["--name", "🌸"], "'project_name': use a letter (a to z) or"),
    "a computed answer": (["--set", "slug=mine"], "unknown answer 'slug'"),
    "no answer": (["--set", "licence"], "give it as KEY=VALUE"),
    "an answer given twice": (["--name", "a", "--set", "project_name=b"], "project_name is given"),
    "a name without letters": (
        ["--defaults", "/日本"],
        "cannot make a title from the folder",
    ),
    "a folder in a file's way": (["--defaults", "../dir"], "../dir/Makefile is a folder"),
    "a file in a folder's way": (["--defaults", "../bad"], "../bad/src is not a folder"),
    "a link in a folder's way": (["--keep", "-y", "../out"], "../out/src is not a folder"),
    "a project": (["--defaults", "../made"], "../made is a project already: 'inferplate update'"),
    "no file of answers": (["--answers", "none.yml"], "cannot read none.yml"),
    "answers that are none": (
        ["--answers", "../used/file", "-y"],
        "has no answers: give one on each",
    ),
    "an answer that is a mapping": (["--answers", "../used/a.yml", "-y"], "author takes one text"),
    "a file": (["--defaults", "../used/file"], "../used/file is not a folder"),
    "a folder in a file": (["--defaults", "../used/file/a"], "../used/file is not a folder"),
    "a link to nowhere": (["--defaults", "../link"], "../link is not a folder"),
    "a folder that is closed": (["--defaults", "/proc/service"], "cannot write /proc/service"),
    "no terminal": ([], "no terminal to ask for project_name, framework, runtime, server, "),
}


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(("arguments", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_in_a_line(
    arguments: list[str], message: str, inferplate: Run, work: Path, tmp_path: Path
) -> None:
    there = ("used/file", "dir/Makefile/file", "bad/src", "made/.copier-answers.yml")
    edit(tmp_path, dict.fromkeys(there, new("mine\n")))
    edit(tmp_path, {"used/a.yml": new("author: {name: Ada}\n")})
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/src").symlink_to("../used")
    before = files(tmp_path)
    destination = [] if arguments[-1:] and "/" in arguments[-1] else ["service"]
    code, printed, error = inferplate("new", *destination, *arguments)
    assert (code, printed, error.count("\n")) == (1, "", 1)
    assert message in error
    assert list(work.iterdir()) == []
    assert files(tmp_path) == before


@pytest.mark.usefixtures("wheel")
def test_it_goes_into_a_cloned_repository_that_is_empty(inferplate: Run, work: Path) -> None:
    git = Git(work)
    git.raw("init", "--quiet", ".")
    code, printed, error = inferplate("new", ".", "--defaults")
    assert (code, error) == (0, "")
    assert "It is in a git repository already: commit it there." in printed
    assert git.text("status", "--porcelain", "Makefile") == "?? Makefile"
    assert [path.parent for path in work.rglob(".git")] == [work]


THEIRS = {
    "README.md": new("theirs\n"),
    "LICENSE": new("theirs\n"),
    ".github/CODEOWNERS": new("* @platform\n"),
    "docs/runbook.md": new("theirs\n"),
}


@pytest.mark.usefixtures("wheel")
def test_only_what_would_be_overwritten_is_refused_and_it_can_be_kept(
    inferplate: Run, work: Path
) -> None:
    edit(work, THEIRS)
    git = repository(work)
    before = files(work)
    code, printed, error = inferplate("new", ".", "--defaults")
    assert (code, printed, error.count("\n")) == (1, "", 1)
    assert "LICENSE, README.md would be overwritten in .: " in error
    assert "--keep" in error
    assert files(work) == before
    code, printed, _ = inferplate("new", ".", "--keep", "--json")
    assert (code, json.loads(printed)["kept"]) == (0, ["LICENSE", "README.md"])
    made = files(work)
    (work / ".copier-answers.yml").unlink()
    code, printed, _ = inferplate("new", ".", "--keep", "--defaults")
    assert (code, "README.md says" in printed) == (0, False)
    assert "README.md is yours" in printed
    assert "/docs/tutorial.md\n" in printed
    assert before.items() <= made.items()
    assert made.keys() >= {".github/workflows/ci.yml", "src/service/app.py"}
    commit(git, "the service")
    assert Project.read(work).committed_tree()


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(("key", "expected"), [("y", 0), ("n", 1), (CTRL_C, 130)])
def test_on_a_terminal_it_asks_whether_to_keep(
    key: str, expected: int, inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    edit(work, {"README.md": new("theirs\n")})
    with typed(ENTER * 7 + key, monkeypatch):
        assert inferplate("new", ".")[0] == expected
    assert (work / "README.md").read_text() == "theirs\n"
    assert (work / "Makefile").exists() == (expected == 0)


@pytest.mark.usefixtures("wheel")
def test_a_failure_half_way_leaves_what_was_there(
    inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    edit(work, {".github/CODEOWNERS": new("* @platform\n")})
    before = files(work)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    code, _, error = inferplate("new", ".", "--defaults")
    assert (code, error) == (1, "inferplate: cannot write .: No space left on device\n")
    assert files(work) == before
    assert sorted(path.name for path in work.iterdir()) == [".github"]


TITLES = {
    "fraud-scoring": ("Fraud scoring", "fraud-scoring"),
    "my_Service v2": ("My Service v2", "my-service-v2"),
    "Größe": ("Größe", "groesse"),
    "a/Café crème": ("Café crème", "cafe-creme"),
}


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(("folder", "names"), TITLES.items(), ids=TITLES)
def test_the_name_comes_from_the_folder(
    folder: str, names: tuple[str, str], inferplate: Run, work: Path
) -> None:
    title, slug = names
    assert inferplate("new", folder, "--defaults", "--quiet") == (0, "", "")
    assert Project.read(work / folder).answers["project_name"] == title
    assert f'name = "{slug}"\n' in (work / folder / "pyproject.toml").read_text(encoding="utf-8")
    assert f"NAME := {slug}\n" in (work / folder / "Makefile").read_text(encoding="utf-8")


@pytest.mark.usefixtures("wheel")
def test_a_folder_without_letters_asks_for_the_name(
    inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    with typed("\x15Fugu" + ENTER * 7, monkeypatch):
        code, _, error = inferplate("new", "日本")
    assert (code, error) == (0, "")
    assert Project.read(work / "日本").answers["project_name"] == "Fugu"


@pytest.mark.usefixtures("wheel")
def test_the_answers_of_another_project_are_taken(inferplate: Run, work: Path) -> None:
    given = ["--set", "deploy=", "--set", "licence=MIT", "--runtime", "python"]
    assert inferplate("new", "one", "--defaults", *given)[0] == 0
    options = ["--answers", "one/.copier-answers.yml", "--server", "granian"]
    assert inferplate("new", "two", "--defaults", *options)[0] == 0
    expected = {**Project.read(work / "one").answers, "server": "granian"}
    assert Project.read(work / "two").answers == expected


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("known", [True, False])
def test_it_is_a_repository_with_a_first_commit(
    known: bool, inferplate: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: Path
) -> None:
    settings = {"name": "Ada", "email": "ada@example.org"} if known else {}
    excluded = tmp_path / "ignored"
    excluded.write_text(".env.example\n")
    lines = [f"[core]\nexcludesFile = {excluded}", "[user]"]
    lines += [f"{key} = {value}" for key, value in settings.items()]
    (tmp_path / "gitconfig").write_text("\n".join(lines))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("EMAIL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert inferplate("new", "service", "--defaults")[0] == 0
    git = Git(work / "service")
    author = "Ada <ada@example.org>" if known else "inferplate <inferplate@localhost>"
    assert git.text("log", "--format=%an <%ae>", "main") == author
    assert git.text("status", "--porcelain") == ""
    assert set(git.text("ls-files").splitlines()) == files(work / "service").keys()
    assert Project.read(work / "service").committed_tree()


@pytest.mark.usefixtures("wheel")
def test_it_is_no_repository_of_its_own_if_not_wanted_or_inside_one(
    inferplate: Run, work: Path
) -> None:
    assert inferplate("new", "apart", "--defaults", "--no-git")[0] == 0
    assert not (work / "apart/.git").exists()
    edit(work, {".gitignore": new("ignored/\n")})
    repository(work)
    code, printed, _ = inferplate("new", "services/a", "--defaults")
    assert (code, "It is in a git repository already" in printed) == (0, True)
    assert not (work / "services/a/.git").exists()
    assert inferplate("new", "ignored/a", "--defaults")[0] == 0
    assert (work / "ignored/a/.git").is_dir()


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("broken", ["no git", "hook"])
def test_without_a_first_commit_the_project_is_there_and_it_says_why(
    broken: str, inferplate: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: Path
) -> None:
    if broken == "no git":
        monkeypatch.setenv("PATH", "")
    else:
        executable = tmp_path / "hooks/pre-commit"
        executable.parent.mkdir()
        executable.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
        executable.chmod(0o755)
        (tmp_path / "gitconfig").write_text(f"[core]\nhooksPath = {executable.parent}\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    code, printed, error = inferplate("new", "service", "--defaults")
    assert (code, error) == (0, "")
    reason = "git is not installed" if broken == "no git" else "not today"
    assert "There is no first commit, which updates need" in printed
    assert reason in printed
    assert (work / "service/Makefile").is_file()


@pytest.mark.usefixtures("wheel")
def test_answers_are_checked_before_others_are_asked(
    inferplate: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    with typed("", monkeypatch):
        code, _, error = inferplate("new", "service", "--set", "author= me")
    assert (code, error.count("\n")) == (1, 1)
    assert "'author': remove the blanks around it" in error
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
    data = {"project_name": "Service"}
    copier.run_copy(str(checkout), "same", data, vcs_ref="HEAD", defaults=True, quiet=True)
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
        named = ("--defaults", "--name", "Service", "--no-git")
        assert inferplate("new", ref, *named, "--ref", ref)[0] == 0
    assert Project.read(work / "main").version == NEWEST
    assert Project.read(work / "0.2").version == PREVIOUS
    repository(work / "0.2")
    apply(plan_update(Project.read(work / "0.2"), {}, None))
    seeded = {"train.py": files(work / "0.2")["train.py"]}
    assert files(work / "0.2") == files(work / "main") | seeded


@pytest.mark.parametrize(
    ("origin", "version"),
    [
        (None, "v1.2.0"),
        ({"url": "file:///checkout", "dir_info": {}}, "v1.2.0"),
        ({"url": "https://example.org", "vcs_info": {"commit_id": "c0ffee"}}, "c0ffee"),
    ],
    ids=["index", "folder", "repository"],
)
def test_the_version_is_a_tag_or_the_commit_that_was_installed(
    origin: object, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = json.dumps(origin) if origin else None
    installed = SimpleNamespace(version="1.2.0", read_text=lambda _: written)
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: installed)
    assert installed_version() == version
