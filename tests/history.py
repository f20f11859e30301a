"""The template's history as it may go on, and projects that live through it."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import copier

from inferplate.git import Git
from inferplate.project.apply import apply
from inferplate.project.plan import Plan, plan_update
from inferplate.project.project import Project
from inferplate.template.render import templates_compiled_once
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.verify.hygiene import tree
from inferplate_tools.workbench import Workbench

MakeProject = Callable[..., Path]

OLDEST, PREVIOUS, NEWEST = "v0.1.0", "v0.2.0", "v0.3.0"
YOURS_BELOW = "Yours go below this line: an update leaves them alone."
Edit = Callable[[str], str | None]
MARKS = {"kept": "·", "conflict": "c", "lost": "LOST"}

_IGNORED = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*_cache")


def repository(folder: Path) -> Git:
    """Make a folder a repository with everything in it committed."""
    git = Git(folder)
    git.raw("init", "--quiet", "--initial-branch=main")
    for key, value in {"name": "A User", "email": "user@example.org"}.items():
        git.raw("config", f"user.{key}", value)
    commit(git, "begin")
    return git


def commit(git: Git, message: str) -> None:
    git.raw("add", "--all", "--force")
    git.raw("commit", "--quiet", "--allow-empty", "--message", message)


def first(line: str) -> Edit:
    return lambda text: f"{line}\n{text}"


def last(line: str) -> Edit:
    return lambda text: f"{text}{line}\n"


def swap(old: str, new_text: str) -> Edit:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new_text)

    return change


def new(text: str) -> Edit:
    return lambda _: text


def gone(_: str) -> None:
    return None


def edit(root: Path, edits: Mapping[str, Edit]) -> None:
    """Change the text of files; an edit that returns none deletes its file."""
    for name, change in edits.items():
        path = root / name
        changed = change(path.read_text(encoding="utf-8") if path.exists() else "")
        if changed is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(changed, encoding="utf-8")


def release(template: Path, version: str, edits: Mapping[str, Edit]) -> None:
    """Commit a change of the template and tag it as a version, with an entry in the changelog."""
    heading = f"\n## [{version.removeprefix('v')}]\n\n### Changed\n\n- What {version} brings.\n"
    edit(template, {**edits, "CHANGELOG.md": lambda text: text.replace("\n", heading, 1)})
    git = Git(template)
    commit(git, version)
    git.raw("tag", version)


def move(template: Path, old: str, new_path: str) -> None:
    (template / old).rename(template / new_path)


def history(bench: Workbench) -> Path:
    """Return a repository of the template with three versions; today's is the oldest."""

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in ("template", "copier.yml", "CHANGELOG.md"):
            source = template_root() / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=_IGNORED)
            else:
                shutil.copyfile(source, folder / name)
        repository(folder).raw("tag", OLDEST)
        service = "template/service"
        release(
            folder,
            PREVIOUS,
            {
                "copier.yml": last("region:\n  type: str\n  ask: false\n  default: nowhere"),
                f"{service}/Dockerfile.jinja": first("# For the region {{ region }}."),
                f"{service}/README.md.jinja": first("<!-- since 0.2.0 -->"),
                f"{service}/pyproject.toml.jinja": first("# since 0.2.0"),
                f"{service}/src/service/ops/settings.py": first("# since 0.2.0"),
                f"{service}/src/service/added.py": new('"""Since 0.2.0."""\n'),
                f"{service}/tests/managed/test_batching.py": last("# since 0.2.0"),
                f"{service}/tests/managed/test_settings.py": last("# since 0.2.0"),
                f"{service}/src/service/predict.py.jinja": last("# since 0.2.0"),
                "template/examples/tabular/tests/test_model.py": last("# since 0.2.0"),
            },
        )
        move(
            folder,
            f"{service}/src/service/core/cpu.py",
            f"{service}/src/service/core/processors.py",
        )
        release(
            folder,
            NEWEST,
            {
                f"{service}/.env.example": gone,
                f"{service}/Makefile.jinja": last("# since 0.3.0"),
                f"{service}/src/service/core/processors.py": first("# since 0.3.0"),
                f"{service}/src/service/added.py": last("# since 0.3.0"),
                f"{service}/train.py.jinja": last("# since 0.3.0"),
            },
        )

    return bench.once("history", make)


def emitted(bench: Workbench, variant: Variant, version: str) -> Path:
    """Return what Copier emits for a variant from a version of the history."""
    source = history(bench)

    def make(folder: Path) -> None:
        # The bits in the index of a repository that is none yet: Copier asks git for each file.
        without_index = patch("copier._main.Worker._sync_git_index_executable_bit")
        with templates_compiled_once(), without_index:
            copier.run_copy(
                str(source),
                folder,
                data=variant.answers(),
                vcs_ref=version,
                defaults=True,
                quiet=True,
                settings=copier.Settings(),
            )

    return bench.once(f"emitted/{version}/{variant}", make)


def files(project: Path) -> dict[str, bytes]:
    return {
        name: content for name, content in tree(project).items() if not name.startswith(".git/")
    }


def state(project: Path) -> tuple[object, ...]:
    git = Git(project)
    index = (project / ".git/index").read_bytes()
    return files(project), index, git.text("rev-parse", "HEAD"), git.text("status", "--porcelain")


def save(project: Path, edits: Mapping[str, Edit]) -> None:
    edit(project, edits)
    commit(Git(project), "edits")


def of(template: Path, project: Path) -> Path:
    """Let a project come from another repository of the template."""
    answers = project / ".copier-answers.yml"
    recorded = answers.read_text(encoding="utf-8")
    source = Project.read(project).source
    answers.write_text(recorded.replace(source, str(template)), encoding="utf-8")
    commit(Git(project), "origin")
    return project


def update(project: Path, to: str | None = None, **switch: Any) -> Plan:
    plan = plan_update(Project.read(project), switch, to)
    apply(plan)
    return plan


def copier_update(project: Path, **options: Any) -> None:
    copier.run_update(
        project,
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
        settings=copier.Settings(),
        **options,
    )


def edits_table(outcomes: Iterable[tuple[int, str, Mapping[str, str]]]) -> list[str]:
    """Write what became of every edit in every update, which have numbers and names."""
    columns = sorted(outcomes, key=lambda column: column[0])
    found = [outcome for _, _, outcome in columns]
    rows = {edited: [MARKS[outcome[edited]] for outcome in found] for edited in found[0]}
    for kind, mark in MARKS.items():
        rows[f"**{kind} ({mark})**"] = [
            str(list(outcome.values()).count(kind)) for outcome in found
        ]
    header = {"edit": [str(number) for number, _, _ in columns], "---": ["---"] * len(columns)}
    lines = [f"{number}. {name}" for number, name, _ in columns]
    table = [f"| {' | '.join([name, *row])} |" for name, row in (header | rows).items()]
    return [*lines, "", *table]
