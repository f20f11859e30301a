"""An update loses nothing: newer versions, other answers, moves, interruptions."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Set
from itertools import count
from pathlib import Path
from typing import Any

import copier
import pytest
from conftest import ALL_VARIANTS, COVERING_VARIANTS, FURTHER_TASKS, Covers, Run
from history import (
    MARKS,
    NEWEST,
    OLDEST,
    PREVIOUS,
    YOURS_BELOW,
    Edit,
    MakeProject,
    commit,
    copier_update,
    edit,
    emitted,
    files,
    first,
    gone,
    last,
    move,
    new,
    of,
    release,
    repository,
    save,
    state,
    swap,
    update,
)

from inferplate.errors import InferplateError
from inferplate.git import Git, GitError
from inferplate.project import sides
from inferplate.project.project import Project
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools.workbench import Workbench

DEFAULT = ALL_VARIANTS[0]
FRAMEWORKS, RUNTIMES, SERVERS = (
    list(dict.fromkeys(getattr(variant, axis) for variant in ALL_VARIANTS))
    for axis in ("framework", "runtime", "server")
)


COVERED_IN_EACH_FRAMEWORK = [
    Variant(framework, covered.runtime, covered.server)
    for framework in FRAMEWORKS
    for covered in COVERING_VARIANTS
]


@pytest.mark.parametrize("version", [OLDEST, PREVIOUS])
@pytest.mark.parametrize(
    "updated",
    [
        pytest.param(each, marks=() if each in COVERING_VARIANTS else pytest.mark.slow)
        for each in COVERED_IN_EACH_FRAMEWORK
    ],
    ids=str,
)
def test_an_update_equals_a_fresh_render(
    updated: Variant, version: str, make_project: MakeProject, bench: Workbench, covers: Covers
) -> None:
    project = make_project(updated, version)
    plan = update(project)
    fresh = files(emitted(bench, updated, NEWEST))
    users = ["src/service/predict.py", "tests/test_model.py", "train.py"]
    seeded = files(emitted(bench, updated, version))
    assert files(project) == fresh | {name: seeded[name] for name in users}
    assert plan.conflicts == {}
    assert Git(project).text("diff", "--cached", "--name-only") == ""
    total = 2 * len(COVERED_IN_EACH_FRAMEWORK)
    covers("updated as a fresh render", f"{version} {updated}", total)


OWN: dict[str, tuple[str, Edit]] = {
    "own model and schemas": ("src/service/predict.py", last("# mine: instances, predictions")),
    "an own route": ("src/service/routes.py", last("# mine: a route")),
    "an own setting": ("src/service/settings.py", last("# mine: a setting")),
    "an own module": ("src/service/own.py", new("# mine: a module\n")),
    "own training": ("train.py", first("# mine: training")),
    "own golden values": ("tests/golden.json", last("")),
}
MERGED: dict[str, tuple[str, Edit]] = {
    "an own dependency": (
        "pyproject.toml",
        swap(f"{YOURS_BELOW}\n", f'{YOURS_BELOW}\n  "own-dependency>=1",\n'),
    ),
    "own notes in the README": ("README.md", last("My notes.")),
    "another bound of a dependency": ("pyproject.toml", swap('"numpy>=2.1"', '"numpy>=2.2"')),
    "another default of a setting": (
        "src/service/ops/settings.py",
        swap("default=8000, ge=1", "default=9000, ge=1"),
    ),
    "another text in the README": ("README.md", swap("The image holds", "Mine holds")),
    "another line in the Dockerfile": ("Dockerfile", swap("EXPOSE 8000", "EXPOSE 9000")),
    "the digest of the base": ("Dockerfile", swap("-slim", f"-slim@sha256:{'0' * 64}")),
    "a target at the end of the Makefile": ("Makefile", last("mine:\n\t@exit 0")),
    "a line at the end of app.py": ("src/service/app.py", last("# mine: at the framework")),
    "a line at the end of runtime.py": ("src/service/runtime.py", last("# mine: at the runtime")),
    "a line at the end of server.py": ("src/service/server.py", last("# mine: at the server")),
    "a line in a file that moves": (
        "src/service/core/cpu.py",
        last("# mine: in a file that moves"),
    ),
    "a file of a name that the template takes": (
        "src/service/added.py",
        new("# mine: where the template adds one\n"),
    ),
    "a line in a file that was renamed": ("tests/test_settings.py", last("# mine: renamed")),
}
RENAMED_FROM, DELETED = "tests/managed/test_settings.py", "tests/managed/test_batching.py"
NINJA, LITESTAR = (
    Variant(framework, DEFAULT.runtime, DEFAULT.server) for framework in ("ninja", "litestar")
)
UPDATES: dict[str, tuple[Variant, str, str | None, dict[str, str]]] = {
    "oldest to newest": (DEFAULT, OLDEST, None, {}),
    "oldest to previous": (LITESTAR, OLDEST, PREVIOUS, {}),
    "previous to newest": (NINJA, PREVIOUS, None, {}),
    "FastAPI to Litestar": (DEFAULT, OLDEST, None, {"framework": "litestar"}),
    "FastAPI to Django Ninja": (DEFAULT, OLDEST, None, {"framework": "ninja"}),
    "Litestar to FastAPI": (LITESTAR, OLDEST, None, {"framework": "fastapi"}),
    "Litestar to Django Ninja": (LITESTAR, OLDEST, None, {"framework": "ninja"}),
    "Django Ninja to FastAPI": (NINJA, OLDEST, None, {"framework": "fastapi"}),
    "Django Ninja to Litestar": (NINJA, OLDEST, None, {"framework": "litestar"}),
    "to PyTorch": (DEFAULT, OLDEST, None, {"runtime": "pytorch"}),
    "to Transformers": (DEFAULT, OLDEST, None, {"runtime": "transformers"}),
    "to Granian": (DEFAULT, OLDEST, None, {"server": "granian"}),
    "all at once": (DEFAULT, OLDEST, NEWEST, {"framework": "ninja", "runtime": "xgboost"}),
}


def edit_everything(project: Path) -> dict[str, set[str]]:
    """Make every edit, and return the lines that each has made."""
    move(project, RENAMED_FROM, "tests/test_settings.py")
    lines = {}
    for name, (path, change) in {**OWN, **MERGED}.items():
        before = lines_of(project / path)
        edit(project, {path: change})
        lines[name] = lines_of(project / path) - before
    edit(project, {DELETED: gone})
    commit(Git(project), "edits")
    return lines


def lines_of(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


def outcomes(
    lines: Mapping[str, set[str]],
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    conflicts: Set[str],
) -> dict[str, str]:
    """Say of every edit whether it was kept, is in a conflict that was named, or was lost."""
    texts = {path: content.decode() for path, content in after.items()}
    found = {
        name: "kept" if after.get(path) == before[path] else "lost"
        for name, (path, _) in OWN.items()
    }
    for name in MERGED:
        assert lines[name]
        holders = [path for path, text in texts.items() if lines[name] <= {*text.splitlines()}]
        in_conflict = any(lines[name] & marked(texts[path]) for path in holders)
        assert not in_conflict or conflicts & {*holders}
        found[name] = "conflict" if in_conflict else "kept" if holders else "lost"
    found["a file deleted"] = "lost" if DELETED in after else "kept"
    found["a file renamed"] = "lost" if RENAMED_FROM in after else "kept"
    return found


def marked(text: str) -> set[str]:
    """Return the lines of a text that are in conflicts."""
    conflicts = re.findall(r"^<{7} .*?^>{7} ", text, re.MULTILINE | re.DOTALL)
    return {line for conflict in conflicts for line in conflict.splitlines()}


def documented(name: str) -> dict[str, str]:
    """Read what the documentation says of an update, by edit."""
    text = (template_root() / "docs/updates.md").read_text(encoding="utf-8")
    table = text[text.index("| edit |") :].partition("\n\n")[0]
    rows = [cells(line) for line in table.splitlines()]
    (number,) = (line.partition(".")[0] for line in text.splitlines() if line.endswith(f". {name}"))
    column = rows[0].index(number)
    kinds = {mark: kind for kind, mark in MARKS.items()}
    return {row[0]: kinds[row[column]] for row in rows[2:] if "**" not in row[0]}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("name", UPDATES)
def test_no_edit_is_lost(
    name: str,
    make_project: MakeProject,
    covers: Covers,
    record_property: Callable[[str, object], None],
) -> None:
    variant, version, to, switch = UPDATES[name]
    project = make_project(variant, version)
    lines = edit_everything(project)
    before = files(project)
    plan = update(project, to, **switch)
    after = files(project)
    found = outcomes(lines, before, after, plan.conflicts.keys())
    record_property("edits", (list(UPDATES).index(name) + 1, name, found))
    assert "lost" not in found.values(), found
    with_markers = {path for path, content in after.items() if b"<<<<<<< yours" in content}
    assert with_markers == plan.conflicts.keys()
    assert found == documented(name), "bring the table of docs/updates.md up to date"
    covers("edits in place, none lost", name, len(UPDATES))


SWITCHES = [
    (old, new)
    for axis, values in (("framework", FRAMEWORKS), ("server", SERVERS))
    for old in (Variant(**{**DEFAULT.answers(), axis: value}) for value in values)
    for new in (Variant(**{**DEFAULT.answers(), axis: value}) for value in values)
    if old != new
] + [
    (
        Variant(DEFAULT.framework, old, DEFAULT.server),
        Variant(DEFAULT.framework, new, DEFAULT.server),
    )
    for old, new in zip(RUNTIMES, RUNTIMES[1:] + RUNTIMES[:1], strict=True)
]
IMAGE, PROTOCOL = (
    Variant(DEFAULT.framework, DEFAULT.runtime, DEFAULT.server, task)
    for task in ("image", WITHOUT_HANDLER)
)
SWITCHES += [
    *((Variant(new.framework, new.runtime, new.server), new) for new, *_ in FURTHER_TASKS.values()),
    (IMAGE, DEFAULT),
    (IMAGE, Variant(IMAGE.framework, "pytorch", IMAGE.server, "image")),
    (IMAGE, Variant(IMAGE.framework, "xgboost", IMAGE.server)),  # which has no images
    (IMAGE, PROTOCOL),
    (PROTOCOL, DEFAULT),
    (PROTOCOL, Variant("ninja", "transformers", "granian", WITHOUT_HANDLER)),
    (
        Variant(DEFAULT.framework, "onnxruntime", DEFAULT.server, "embedding"),
        Variant(DEFAULT.framework, "transformers", DEFAULT.server, "embedding"),
    ),
]


@pytest.mark.parametrize(("old", "new"), SWITCHES, ids=[f"{old} to {new}" for old, new in SWITCHES])
def test_a_switch_equals_a_fresh_render(
    old: Variant, new: Variant, make_project: MakeProject, bench: Workbench, covers: Covers
) -> None:
    project = make_project(old)
    plan = update(project, **difference(old, new))
    assert files(project) == files(emitted(bench, new, OLDEST))
    assert (plan.version, plan.conflicts, plan.to_port) == (OLDEST, {}, [])
    covers("switched as a fresh render", f"{old} to {new}", len(SWITCHES))


OTHER_SWITCHES = [(old, new) for old, new in SWITCHES if old.framework == new.framework]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"), OTHER_SWITCHES, ids=[f"{old} to {new}" for old, new in OTHER_SWITCHES]
)
def test_a_switch_of_server_or_runtime_loses_no_edit(
    old: Variant, new: Variant, make_project: MakeProject, covers: Covers
) -> None:
    project = make_project(old)
    lines = edit_everything(project)
    before = files(project)
    plan = update(project, **difference(old, new))
    found = outcomes(lines, before, files(project), plan.conflicts.keys())
    assert "lost" not in found.values(), found
    covers("edits kept by a switch of server or runtime", f"{old} to {new}", len(OTHER_SWITCHES))


def difference(old: Variant, new: Variant) -> dict[str, str]:
    """Return the answers that differ; the task follows the runtime to its first."""
    differing = dict(new.answers().items() - old.answers().items())
    if new.has_first_task and new.runtime != old.runtime:
        differing.pop("task", None)
    return differing


@pytest.mark.parametrize("by_copier", [False, True], ids=["inferplate", "copier"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "transformers"])
def test_a_project_that_is_older_than_the_task_gets_the_first_of_its_runtime(
    by_copier: bool, runtime: str, make_project: MakeProject
) -> None:
    variant = Variant("fastapi", runtime, "uvicorn")
    project = make_project(variant, PREVIOUS)
    mine = files(project)["src/service/predict.py"]
    if by_copier:
        copier_update(project)
    else:
        assert update(project).conflicts == {}
    assert files(project)["src/service/predict.py"] == mine


@pytest.mark.parametrize("by_copier", [False, True], ids=["inferplate", "copier"])
@pytest.mark.parametrize("to", [PREVIOUS, NEWEST])
def test_a_project_that_was_not_asked_for_its_task_keeps_the_first(
    to: str, by_copier: bool, make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project()
    recorded = files(emitted(bench, DEFAULT, to))[".copier-answers.yml"]
    save(project, {".copier-answers.yml": swap("task: tabular\n", "")})
    seeded = files(project)
    if by_copier:
        copier_update(project, vcs_ref=to)
    else:
        plan = update(project, to)
        assert (plan.conflicts, plan.switched, plan.to_port) == ({}, {}, [])
    found = files(project)
    assert found[".copier-answers.yml"] == recorded
    assert b"task: tabular" in recorded
    for name in ("src/service/predict.py", "tests/golden.json", "tests/test_model.py", "train.py"):
        assert found[name] == seeded[name]


@pytest.mark.parametrize(
    ("runtime", "task", "reason"),
    [
        ("pytorch", "text", "needs the runtime transformers"),
        ("xgboost", "image", "needs onnxruntime, pytorch or openvino"),
    ],
)
def test_a_task_that_the_new_runtime_does_not_have_is_refused(
    runtime: str, task: str, reason: str, make_project: MakeProject
) -> None:
    project = make_project()
    before = files(project)
    with pytest.raises(InferplateError, match=reason):
        update(project, runtime=runtime, task=task)
    assert files(project) == before


@pytest.mark.parametrize("by_copier", [False, True], ids=["inferplate", "copier"])
def test_a_switch_of_the_task_leaves_what_the_user_has_written(
    by_copier: bool, make_project: MakeProject
) -> None:
    project = make_project()
    own = {
        "src/service/predict.py": last("# mine: instances, predictions"),
        "tests/test_model.py": last("# mine: tests"),
    }
    save(project, own)
    before = files(project)
    if by_copier:
        copier_update(project, vcs_ref=OLDEST, data={"task": "image"})
    else:
        plan = update(project, task="image")
        assert plan.switched == {"task": ("tabular", "image")}
        assert (plan.conflicts, plan.to_port) == ({}, list(own))
    found = files(project)
    for name in own:
        assert found[name] == before[name]
    assert b"task: image" in found[".copier-answers.yml"]
    assert b'"pillow' in found["pyproject.toml"]


OF_PREDICT = {
    "src/service/predict.py": last("# mine: instances, predictions"),
    "tests/test_model.py": last("# mine: tests"),
    "tests/golden.json": last(""),
}


def test_without_predict_and_back_keeps_what_the_user_has_written(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project()
    save(project, OF_PREDICT)
    own = {name: files(project)[name] for name in OF_PREDICT}
    for variant in (PROTOCOL, DEFAULT):
        plan = update(project, task=variant.task)
        assert (plan.conflicts, plan.to_port, plan.to_delete) == ({}, sorted(OF_PREDICT), [])
        assert files(project) == files(emitted(bench, variant, OLDEST)) | own
        commit(Git(project), "switched")


def test_with_predict_and_back_keeps_what_the_user_has_written(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project(PROTOCOL)
    edits = {name: change for name, change in OF_PREDICT.items() if "predict.py" not in name}
    save(project, edits)
    own = {name: files(project)[name] for name in edits}
    for variant in (DEFAULT, PROTOCOL):
        plan = update(project, task=variant.task)
        assert (plan.conflicts, plan.to_port, plan.to_delete) == ({}, sorted(edits), [])
        assert files(project) == files(emitted(bench, variant, OLDEST)) | own
        commit(Git(project), "switched")


def test_copier_alone_takes_predict_away_and_gives_it_back(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project()
    save(project, OF_PREDICT)
    own = {name: files(project)[name] for name in (*OF_PREDICT, "src/service/routes.py")}
    for variant in (PROTOCOL, DEFAULT):
        copier_update(project, vcs_ref=OLDEST, data={"task": variant.task})
        assert files(project) == files(emitted(bench, variant, OLDEST)) | own
        commit(Git(project), "switched")


def test_a_switch_names_the_users_files_that_were_written_for_the_old_answers(
    make_project: MakeProject,
) -> None:
    project = make_project()
    artifact = {"models/own.onnx": new("weights\n")}
    save(project, {"src/service/routes.py": last("# a route"), **artifact})
    assert update(project, framework="ninja").to_port == ["src/service/routes.py"]
    commit(Git(project), "switched")
    assert update(project, server="granian").to_port == []
    commit(Git(project), "switched")
    plan = update(project, runtime="pytorch")
    assert plan.to_port == ["models/own.onnx"]
    assert (project / "models/own.onnx").read_text(encoding="utf-8") == "weights\n"


@pytest.mark.parametrize("by_copier", [False, True], ids=["inferplate", "copier"])
def test_own_runtime_is_left_alone_by_an_update(
    by_copier: bool, make_project: MakeProject, forked: Path
) -> None:
    seed = "template/runtimes/python/src/service/runtime.py"
    release(forked, "v0.4.0", {seed: first("# since 0.4.0")})
    project = of(forked, make_project(Variant("fastapi", "python", "uvicorn")))
    runtime = project / "src/service/runtime.py"
    save(project, {"src/service/runtime.py": new("# mine\n")})
    if by_copier:
        copier_update(project)
    else:
        assert update(project).conflicts == {}
        commit(Git(project), "updated")
        plan = update(project, server="granian", framework="ninja")
        assert (plan.conflicts, plan.to_port) == ({}, [])
    assert runtime.read_text(encoding="utf-8") == "# mine\n"


def test_own_runtime_is_kept_beside_the_one_that_is_chosen(
    make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project(Variant("fastapi", "python", "uvicorn"))
    save(project, {"src/service/runtime.py": last("# mine")})
    mine = files(project)["src/service/runtime.py"]
    plan = update(project, runtime="xgboost")
    kept = "src/service/runtime_python.py"
    fresh = files(emitted(bench, Variant("fastapi", "xgboost", "uvicorn"), OLDEST))
    assert files(project) == {**fresh, kept: mine}
    assert (plan.conflicts, plan.to_port) == ({}, [kept])
    changes = {change.path: (change.kind, change.edited) for change in plan.changes}
    assert changes[kept] == ("new", False)
    assert changes["src/service/runtime.py"] == ("changed", False)
    commit(Git(project), "switched")
    assert update(project, runtime="python").conflicts == {}
    seeded = files(emitted(bench, Variant("fastapi", "python", "uvicorn"), OLDEST))
    assert files(project) == {**seeded, kept: mine}
    commit(Git(project), "switched back")
    save(project, {"src/service/runtime.py": last("# mine, another")})
    plan = update(project, runtime="xgboost")
    assert plan.to_port == ["src/service/runtime_python_2.py"]
    assert files(project)[kept] == mine


def test_edits_of_a_runtime_of_the_template_are_merged_in_a_switch_to_python(
    make_project: MakeProject,
) -> None:
    project = make_project()
    save(project, {"src/service/runtime.py": last("# mine: at the runtime")})
    plan = update(project, runtime="python")
    assert plan.conflicts.keys() == {"src/service/runtime.py"}


def test_a_comment_in_the_answers_file_is_replaced_and_named(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    save(project, {".copier-answers.yml": last("# mine")})
    code, printed, _ = inferplate("update", project, "--server", "granian")
    assert code == 0
    (row,) = (line for line in printed.splitlines() if ".copier-answers.yml" in line)
    assert "replaced" in row
    assert "mine" not in (project / ".copier-answers.yml").read_text(encoding="utf-8")


def test_an_old_git_is_named_first(
    make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho git version 2.37.9\n", encoding="utf-8")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InferplateError, match=r"git 2\.38 or newer is needed to merge, this is 2\.37"
    ):
        update(project)


UV = {
    "follows": ('echo new > "$4/uv.lock"', "", "new\n"),
    "fails": ("echo 'error: no network' >&2; exit 2", "run 'uv lock' (error: no network)", "old\n"),
    "is not there": ("", "run 'uv lock' (uv is not installed)", "old\n"),
}


@pytest.mark.parametrize(("script", "left", "lock"), UV.values(), ids=UV)
def test_uv_lock_follows_the_dependencies(
    script: str,
    left: str,
    lock: str,
    make_project: MakeProject,
    inferplate: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = make_project()
    save(project, {"uv.lock": new("old\n")})
    uv = tmp_path / "uv"
    which = "inferplate.project.lockfile.shutil.which"
    monkeypatch.setattr(which, lambda _: str(uv) if script else None)
    uv.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    uv.chmod(0o755)
    assert inferplate("update", project, "--server", "granian", "--dry-run")[0] == 0
    assert files(project)["uv.lock"] == b"old\n"
    code, printed, _ = inferplate("update", project, "--server", "granian")
    assert code == 0
    assert left in printed
    assert ("uv.lock is for the old dependencies" in printed) == bool(left)
    assert files(project)["uv.lock"] == lock.encode()


def test_a_script_reads_what_an_update_does(make_project: MakeProject, inferplate: Run) -> None:
    project = make_project()
    save(project, {"Dockerfile": first("# Mine.")})
    code, printed, error = inferplate("update", project, "--json", "--dry-run")
    document = json.loads(printed)
    assert (code, error, document["dry_run"]) == (0, "", True)
    assert document["to"] == NEWEST
    assert document["taken"] == {"region": "nowhere"}
    assert {"path": "Makefile", "kind": "changed", "edited": False, "moved_from": ""} in document[
        "changes"
    ]
    code, printed, error = inferplate("update", project, "--quiet")
    assert (code, printed) == (1, "")
    assert error.startswith("inferplate: conflicts are left in Dockerfile: resolve them")
    assert document["conflicts"] == {"Dockerfile": "contents"}


def test_answers_that_follow_from_the_name_follow_a_new_one(make_project: MakeProject) -> None:
    project = make_project()
    plan = update(project, project_name="Fraud scoring", description="Mine.")
    assert set(plan.switched) == {"project_name", "author", "description"}
    answers = Project.read(project).answers
    assert answers["author"] == "The authors of Fraud scoring"
    assert answers["description"] == "Mine."
    assert "The authors of Fraud scoring" in (project / "LICENSE").read_text()
    commit(Git(project), "renamed")
    update(project, project_name="Scores")
    assert Project.read(project).answers["description"] == "Mine."


def test_any_answer_is_changed_and_typed_as_its_question_wants(make_project: MakeProject) -> None:
    project = make_project()
    plan = update(project, python_version="3.13", deploy="", description="yes: 1.10")
    assert set(plan.switched) == {"python_version", "deploy", "description"}
    answers = Project.read(project).answers
    assert answers["python_version"] == "3.13"
    assert answers["deploy"] == []
    assert answers["description"] == "yes: 1.10"
    assert not (project / "compose.yaml").exists()


def test_a_commit_that_is_no_release_is_updated_to_the_next_one(
    make_project: MakeProject, forked: Path, tmp_path: Path
) -> None:
    edit(forked, {"template/service/LICENSE.jinja": last("between releases")})
    commit(Git(forked), "between releases")
    project = tmp_path / "between"
    copier.run_copy(str(forked), project, vcs_ref="HEAD", defaults=True, quiet=True)
    repository(project)
    between = Project.read(project).version
    assert between.startswith(f"{NEWEST}-1-g")
    assert update(project).version == between
    release(forked, "v0.4.0", {"template/service/LICENSE.jinja": last("released")})
    assert update(project).version == "v0.4.0"
    licence = (project / "LICENSE").read_text(encoding="utf-8")
    assert licence.endswith("between releases\nreleased\n")


@pytest.mark.parametrize("update_it", [update, copier_update], ids=["inferplate", "copier"])
def test_the_users_files_are_not_brought_back(
    update_it: Callable[[Path], object], make_project: MakeProject
) -> None:
    project = make_project()
    save(project, {"tests/test_model.py": gone, "train.py": gone})
    update_it(project)
    assert not (project / "train.py").exists()
    assert not (project / "tests/test_model.py").exists()


def test_a_users_file_that_is_new_in_the_template_is_seeded_once(
    make_project: MakeProject, forked: Path
) -> None:
    seed = "template/service/src/service/own_views.py"
    release(
        forked,
        "v0.4.0",
        {
            "copier.yml": lambda text: text.replace(
                "    /train.py\n", "    /train.py\n    /src/service/own_views.py\n"
            ),
            seed: new("# a seed\n"),
        },
    )
    release(forked, "v0.5.0", {seed: last("# better")})
    project = of(forked, make_project())
    update(project, "v0.4.0")
    assert (project / "src/service/own_views.py").read_text() == "# a seed\n"
    save(project, {"src/service/own_views.py": last("# mine")})
    update(project, "v0.5.0")
    assert (project / "src/service/own_views.py").read_text() == "# a seed\n# mine\n"


def test_edits_follow_a_file_that_the_template_moves(make_project: MakeProject) -> None:
    project = make_project(version=PREVIOUS)
    save(project, {"src/service/core/cpu.py": last("# mine")})
    plan = update(project)
    moved = (project / "src/service/core/processors.py").read_text(encoding="utf-8")
    assert moved.startswith("# since 0.3.0\n")
    assert moved.endswith("# mine\n")
    assert not (project / "src/service/core/cpu.py").exists()
    (change,) = (change for change in plan.changes if change.kind == "moved")
    assert (change.path, change.moved_from, change.edited) == (
        "src/service/core/processors.py",
        "src/service/core/cpu.py",
        True,
    )


def test_what_the_user_deleted_stays_deleted_and_is_named(make_project: MakeProject) -> None:
    project = make_project()
    save(project, {"tests/managed/test_batching.py": gone})
    assert update(project, PREVIOUS).stay_deleted == ["tests/managed/test_batching.py"]
    assert not (project / "tests/managed/test_batching.py").exists()


def test_a_project_within_a_larger_repository_is_updated(
    make_project: MakeProject, bench: Workbench, tmp_path: Path, inferplate: Run
) -> None:
    seeded = make_project(version=PREVIOUS)
    shutil.rmtree(seeded / ".git")
    folder = tmp_path / "all" / "services" / "naïve service"
    shutil.move(seeded, folder)
    (tmp_path / "all" / "other.txt").write_text("other\n")
    git = repository(tmp_path / "all")
    (tmp_path / "all" / "other.txt").write_text("not committed\n")
    update(folder)
    fresh = files(emitted(bench, DEFAULT, NEWEST))
    assert files(folder) == fresh | {
        "train.py": files(emitted(bench, DEFAULT, PREVIOUS))["train.py"]
    }
    assert git.text("diff", "--name-only", "--", "other.txt") == "other.txt"
    git.raw("stash", "push", "--include-untracked", "--", str(folder))
    assert inferplate("update", folder)[1].splitlines()[-1] == (
        f"To go back instead: git stash push --include-untracked -- '{folder}'"
    )


def test_a_conflict_is_listed_and_continue_waits_until_it_is_resolved(
    make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    save(project, {"Makefile": last("# mine")})
    code, printed, _ = inferplate("update", project)
    assert code == 1
    assert "Makefile: choose between the marked lines" in printed
    git = Git(project)
    assert git.text("diff", "--cached", "--name-only") == "Makefile"

    def refused(*options: str) -> bool:
        code, _, error = inferplate("update", project, *options)
        left = "inferplate: conflicts are left in Makefile: resolve them, 'git add' each, then run"
        return code == 1 and error.startswith(left) and error.count("\n") == 1

    assert refused("--continue")
    assert refused("--server", "granian")
    stub = "\ntest:\n\t@exit 0\n"
    edit(project, {"Makefile": new(stub)})
    assert refused("--continue")
    git.raw("add", "Makefile")
    code, printed, error = inferplate("update", project, "--continue")
    assert (code, error) == (0, "")
    assert "The update is complete and the tests pass" in printed

    edit(project, {"Makefile": new(stub.replace("exit 0", "exit 3"))})
    code, _, error = inferplate("update", project, "--continue")
    assert code == 1
    assert "'make test' exited with 2" in error

    edit(project, {".copier-answers.yml": lambda text: text.replace("region", "regiom")})
    code, _, error = inferplate("update", project, "--continue")
    assert code == 1
    assert error == (
        "inferplate: .copier-answers.yml is not what v0.3.0 writes: look at regiom, region\n"
    )


def set_answers(replaced: str, by: str) -> dict[str, Edit]:
    return {".copier-answers.yml": lambda text: text.replace(replaced, by)}


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no such version": (["--to", "0.2.5"], "no version '0.2.5': the nearest is v0.2.0 or v0.3.0"),
    "no version at all": (["--to", "v0.2.O"], "no version 'v0.2.O': did you mean v0.2.0?"),
    "no such framework": (["--framework", "fastpi"], "unknown framework 'fastpi': did you mean"),
    "no such question": (["--set", "licens=MIT"], "unknown answer 'licens': did you mean"),
    "no such choice": (["--set", "licence=GPL"], "unknown licence 'GPL': choose from"),
    "no such choice among some": (["--set", "deploy=compos"], "did you mean 'compose'?"),
    "refused by its validator": (["--set", "author= me"], "remove the blanks around it"),
    "a computed answer": (["--set", "slug=mine"], "unknown answer 'slug'"),
    "no answer": (["--set", "licence"], "give it as KEY=VALUE"),
    "two things at once": (["--continue", "--dry-run"], "cannot be combined with other options"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_asked_for_is_refused_in_a_line(
    arguments: list[str], message: str, make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    before = state(project)
    code, _, error = inferplate("update", project, *arguments)
    assert code == 1
    assert error.count("\n") == 1
    assert message in error
    assert state(project) == before


BAD_PROJECTS: dict[str, tuple[dict[str, Edit], str]] = {
    "no answers file": ({".copier-answers.yml": gone}, "it is not a project made from"),
    "no origin": ({".copier-answers.yml": new("framework: ninja\n")}, "not record '_src_path' and"),
    "no YAML": ({".copier-answers.yml": new("a: b: c\n")}, "is not YAML"),
    "no network": (set_answers("/history", "/nowhere"), "cannot reach the template at"),
    "unknown version": (set_answers("v0.1.0", "v9.0.0"), "has no version 'v9.0.0'"),
    "an option for a version": (set_answers("v0.1.0", "--all"), "has no version '--all'"),
    "answers edited by hand": (set_answers("uvicorn", "caddy"), "'server'"),
}


@pytest.mark.parametrize(("edits", "message"), BAD_PROJECTS.values(), ids=BAD_PROJECTS)
def test_a_project_that_cannot_be_updated_is_refused_in_a_line(
    edits: dict[str, Edit], message: str, make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    save(project, edits)
    before = state(project)
    code, _, error = inferplate("update", project)
    assert code == 1
    assert error.count("\n") == 1
    assert message in error
    assert state(project) == before


def test_what_is_not_committed_is_refused(make_project: MakeProject, inferplate: Run) -> None:
    project = make_project()
    edit(project, {"notes.txt": new("mine\n")})
    assert "uncommitted changes (notes.txt)" in inferplate("update", project)[2]
    shutil.rmtree(project / ".git")
    assert "not in a git repository: run 'git init'" in inferplate("update", project)[2]
    Git(project).raw("init", "--quiet")
    assert "uncommitted changes" in inferplate("update", project)[2]


def without_python(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if not line.endswith(": python\n"))


SERVICE = "template/service"
BAD_RELEASES: dict[str, tuple[dict[str, Edit], str]] = {
    "answers no longer allowed": (
        {"copier.yml": without_python},
        "no longer has runtime 'python': choose another with --runtime NAME: onnxruntime, ",
    ),
    "questions that cannot be read": ({"copier.yml": new("a: b: c")}, "YAML"),
    "an unknown variable": ({f"{SERVICE}/z.txt.jinja": new("{{ nothing }}")}, "'nothing'"),
    "a missing include": ({f"{SERVICE}/z.txt.jinja": new("{% include 'gone' %}")}, "gone"),
    "a wrong type": ({f"{SERVICE}/z.txt.jinja": new("{{ 1 + slug }}")}, "unsupported operand"),
    "a division by zero": ({f"{SERVICE}/z.txt.jinja": new("{{ 1 / 0 }}")}, "division by zero"),
}


@pytest.mark.parametrize(("edits", "message"), BAD_RELEASES.values(), ids=BAD_RELEASES)
def test_a_version_that_cannot_be_rendered_leaves_the_project_alone(
    edits: dict[str, Edit], message: str, make_project: MakeProject, forked: Path, inferplate: Run
) -> None:
    release(forked, "v0.4.0", edits)
    project = of(forked, make_project(Variant("fastapi", "python", "uvicorn")))
    before = state(project)
    code, _, error = inferplate("update", project)
    assert code == 1
    assert error.count("\n") == 1
    assert error.startswith("inferplate: v0.4.0 ")
    assert message in error
    assert state(project) == before


def test_a_file_that_git_does_not_know_is_not_overwritten(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    save(project, {".gitignore": last("added.py")})
    edit(project, {"src/service/added.py": new("# mine, and ignored\n")})
    before = state(project)
    code, _, error = inferplate("update", project)
    assert code == 1
    assert "src/service/added.py: already exists in working directory" in error
    assert state(project) == before


def test_an_edited_file_is_deleted_only_when_allowed(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project(version=PREVIOUS)
    save(project, {".env.example": last("# mine")})
    before = state(project)
    code, printed, error = inferplate("update", project)
    assert code == 1
    assert "You have edited files that the template no longer has:\n  .env.example\n" in printed
    assert "--allow-delete" in error
    assert state(project) == before
    code, printed, _ = inferplate("update", project, "--allow-delete")
    assert code == 0
    assert not (project / ".env.example").exists()


def test_a_dry_run_shows_what_an_update_does_and_changes_nothing(
    make_project: MakeProject, inferplate: Run
) -> None:
    project = make_project()
    save(project, {"Makefile": last("# mine")})
    before = state(project)
    code, printed, _ = inferplate("update", project, "--dry-run")
    assert code == 0
    assert "From v0.1.0 to v0.3.0" in printed
    assert "What v0.2.0 brings." in printed
    assert "What v0.3.0 brings." in printed
    assert (
        "New questions and the answers taken; 'update --set' changes them:\n  region: n" in printed
    )
    assert "src/service/added.py" in printed
    assert "Makefile: choose between the marked lines" in printed
    assert "--continue" not in printed
    assert state(project) == before


def test_there_may_be_nothing_to_do(make_project: MakeProject, inferplate: Run) -> None:
    project = make_project(version=NEWEST)
    before = state(project)
    code, printed, _ = inferplate("update", project, "--server", DEFAULT.server)
    assert (code, printed) == (0, f"Nothing to do: the project is at {NEWEST}.\n")
    assert "is older than" in inferplate("update", project, "--to", OLDEST)[2]
    assert state(project) == before


def after(
    call: int, run: Callable[..., bytes], failure: type[BaseException]
) -> Callable[..., bytes]:
    """Let one call, counted from 0, fail when it is done."""
    number = count()

    def interrupt(git: Git, *arguments: str, **options: Any) -> bytes:
        done = run(git, *arguments, **options)
        if next(number) == call:
            raise failure
        return done

    return interrupt


@pytest.fixture
def renders_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Render each version once in a test that updates many times."""
    kept: dict[str, Path] = {}

    def render_once(template: Path, folder: Path, answers: Mapping[str, Any], **_: Any) -> Path:
        version = answers["_commit"]
        if version not in kept:
            kept[version] = render(template, tmp_path / "renders" / version, answers)
        return Path(shutil.copytree(kept[version], folder))

    monkeypatch.setattr(sides, "render", render_once)


@pytest.mark.usefixtures("renders_once")
def test_an_interruption_leaves_the_project_as_it_was(
    make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    save(project, {"Makefile": last("# mine")})
    before = state(project)
    run = Git.raw
    calls: list[str] = []

    def note(git: Git, *arguments: str, **options: Any) -> bytes:
        calls.append(arguments[0])
        return run(git, *arguments, **options)

    monkeypatch.setattr(Git, "raw", note)
    inferplate("update", project, "--dry-run")
    points = len(calls) + 2  # the patch is checked, and then applied
    assert points > 20
    for point in {*range(0, points, 5), *range(points - 4, points)}:
        monkeypatch.setattr(Git, "raw", after(point, run, KeyboardInterrupt))
        code, _, error = inferplate("update", project)
        assert (code, error) == (130, "inferplate: interrupted\n")
        monkeypatch.setattr(Git, "raw", run)
        assert state(project) == before, f"after git call {point}"


@pytest.mark.usefixtures("renders_once")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP", "a full disk"])
def test_a_patch_that_is_applied_in_part_is_taken_back(
    ending: str, make_project: MakeProject, inferplate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(version=PREVIOUS)
    before = state(project)
    run = Git.raw

    def stop(git: Git, *arguments: str, **options: Any) -> bytes:
        done = run(git, *arguments, **options)
        if arguments[0] == "apply" and "--check" not in arguments:
            (project / "src/service/added.py").write_text("half of it")
            (project / "Makefile").unlink()
            if ending == "a full disk":
                raise GitError("git apply: no space left")
            os.kill(os.getpid(), signal.Signals[ending])
        return done

    monkeypatch.setattr(Git, "raw", stop)
    code, _, error = inferplate("update", project)
    expected = (1, "git apply: no space left") if "disk" in ending else (130, "interrupted")
    assert (code, error) == (expected[0], f"inferplate: {expected[1]}\n")
    assert state(project) == before


@pytest.mark.parametrize("updated", COVERING_VARIANTS[:3], ids=str)
def test_copier_alone_updates_to_the_same(
    updated: Variant, make_project: MakeProject, bench: Workbench
) -> None:
    project = make_project(updated)
    copier_update(project)
    by_copier = files(project)
    git = Git(project)
    git.raw("reset", "--quiet", "--hard")
    git.raw("clean", "--quiet", "--force", "-d")
    update(project)
    assert files(project) == by_copier


@pytest.mark.parametrize(
    ("to", "switch"),
    [
        (PREVIOUS, {}),
        (copier.VcsRef.CURRENT, {"framework": "litestar"}),
        (copier.VcsRef.CURRENT, {"framework": "ninja"}),
        (copier.VcsRef.CURRENT, {"runtime": "transformers"}),
        (copier.VcsRef.CURRENT, {"server": "hypercorn"}),
    ],
    ids=str,
)
def test_copier_alone_loses_no_edit_where_no_file_moves(
    to: str, switch: dict[str, str], make_project: MakeProject
) -> None:
    project = make_project()
    lines = edit_everything(project)
    before = files(project)
    copier_update(project, vcs_ref=to, data=switch)
    after = files(project)
    conflicts = {path for path, content in after.items() if b"<<<<<<< before" in content}
    found = outcomes(lines, before, after, conflicts)
    assert "lost" not in found.values(), found


def test_every_variant_has_the_same_files(bench: Workbench) -> None:
    layouts = {
        frozenset(name for name in files(emitted(bench, each, OLDEST)) if "text_models" not in name)
        for each in COVERING_VARIANTS
    }
    assert len(layouts) == 1, "but for what Transformers alone has"
