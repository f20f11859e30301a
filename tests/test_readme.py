"""What the README says is so."""

import re
import shlex
from pathlib import Path

import copier
import pytest
from conftest import Run
from history import NEWEST, MakeProject, commit, edit, new, save

from inferplate.commands import new as new_module
from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.questions import AXES, axis_choices, read_questions
from inferplate.template.render import render
from inferplate.template.source import PUBLIC_ADDRESS, template_root
from inferplate.template.variants import variants
from inferplate_tools.verify.hygiene import tree

README = (template_root() / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    *(template_root() / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    template_root() / "examples/README.md",
    *sorted(template_root().glob("docs/**/*.md")),
]
SCREEN_LINES = 110
SECTION_LINES = 30


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_it_is_one_screen() -> None:
    assert len(README.splitlines()) <= SCREEN_LINES


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(template_root()).as_posix()
)
def test_the_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = address.partition("#")
        if ":" not in name:
            target = document.parent / name if name else document
            assert target.exists(), address
            assert not anchor or anchor in anchors(target), address


def anchors(document: Path) -> set[str]:
    """Name a document's headings as their addresses do."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_documents_install_from_the_same_place(template: Path, tmp_path: Path) -> None:
    text = (template / "template/inferplate.jinja").read_text(encoding="utf-8")
    (source,) = re.findall(r'set install = "(.+)"', text)
    emitted = render(template, tmp_path / "service", {}) / "README.md"
    found = [
        shlex.split(line, comments=True)[-1]
        for document in [*DOCUMENTS, emitted]
        for line in document.read_text(encoding="utf-8").splitlines()
        if re.match(r"(pipx?|uv tool|uv pip) install .*\binferplate\b", line.strip())
    ]
    assert len(found) >= 2
    assert {*found} == {source}


def test_the_matrix_is_the_templates() -> None:
    questions = read_questions(template_root())
    (row,) = re.findall(r"^\| \*\*.*$", README, re.MULTILINE)
    cells = [cell.replace("**", "").strip() for cell in row.strip("|").split("|")]
    for axis, cell in zip(AXES, cells, strict=True):
        titles = [choice.label.partition(":")[0] for choice in axis_choices(questions)[axis]]
        assert [title.partition(" (")[0] for title in cell.split(", ")] == titles
    assert f"Each of the {len(variants(questions))} combinations" in README


def test_the_tree_is_what_is_emitted(template: Path, tmp_path: Path) -> None:
    files = tree(render(template, tmp_path / "service", {}))
    (drawn,) = blocks("text")
    folders: list[str] = []
    for line in drawn.splitlines()[1:]:
        name = line.split()[0]
        del folders[(len(line) - len(line.lstrip())) // 2 - 1 :]
        if name.endswith("/"):
            folders.append(name)
            assert any(file.startswith("".join(folders)) for file in files), line
        elif name != "…":
            assert "".join([*folders, name]) in files, line
    yours = {line.split()[0] for line in drawn.splitlines() if " yours:" in line}
    assert yours == {"predict.py", "routes.py", "settings.py", "train.py"}


def commands(program: str) -> list[list[str]]:
    return [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith(program)
    ]


def test_the_new_commands_work(
    template: Path, tmp_path: Path, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_module, "bundled_template", lambda: template)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for number, (_, command, _, *options) in enumerate(commands("inferplate new")):
        project = tmp_path / str(number)
        defaults = [] if "--defaults" in options else ["--defaults"]
        assert inferplate(command, project, *options, *defaults)[0] == 0
        answers = Project.read(project).answers
    chosen = [answers[axis] for axis in ("framework", "runtime", "server")]
    assert chosen == ["litestar", "xgboost", "granian"]


def test_the_copier_commands_work(template: Path, tmp_path: Path) -> None:
    assert [command[2] for command in commands("copier copy")] == [PUBLIC_ADDRESS] * 2
    for number, command in enumerate(commands("copier copy")):
        data = dict(part.split("=") for part in command if "=" in part)
        copier.run_copy(
            str(template),
            tmp_path / str(number),
            data=data,
            defaults=True,
            quiet=True,
            settings=copier.Settings(),
        )
    assert data == {"framework": "litestar", "runtime": "xgboost", "server": "granian"}


def test_the_update_commands_work(
    make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (section,) = re.findall(r"^## Update$.*?(?=^## )", README, re.MULTILINE | re.DOTALL)
    assert len(section.splitlines()) <= SECTION_LINES
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    passing = {"Makefile": new("test:\n\t@exit 0\n")}
    project = make_project()
    save(project, passing)
    monkeypatch.chdir(project)
    for line in block.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        code, printed, error = inferplate(*arguments)
        assert (command, error) == ("inferplate", ""), line
        assert code == (1 if arguments == ["update"] else 0), printed
        if code:
            assert "Makefile: choose between the marked lines" in printed
            edit(project, passing)
            Git(project).raw("add", "Makefile")
        if "--continue" in arguments:
            commit(Git(project), "update")
            assert Project.read(project).version == NEWEST
    assert Project.read(project).answers["framework"] == "litestar"


def test_the_make_targets_exist() -> None:
    makefile = (template_root() / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", "".join(blocks("sh"))):
        assert f"\n{target}: " in makefile
