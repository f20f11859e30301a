"""The workflows of this project and of the emitted ones: valid, safe, and the update proposed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from conftest import ALL_VARIANTS
from history import NEWEST, OLDEST, MakeProject, commit, edit, first, history, new, repository

from inferplate.git import Git
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

PROGRAMS = Path(sys.executable).parent
INSTALLING = (
    'pip install --require-hashes --no-deps --only-binary ":all:" '
    "--requirement scripts/update-requirements.txt"
)
BRANCH = f"template-{NEWEST}"
ADDRESS = "https://update:a-token@gitlab.example:443/team/service.git"
GH = """#!/bin/sh
echo "$@" >> "$RECORD"
case "$1 $2" in
    "pr list") cat "$PULL_REQUESTS" ;;
    "pr create") cat >> "$RECORD" ;;
esac
"""
DOCKER = """#!/bin/sh
case $1 in
    save) echo image > "$3" ;;
    run) test -s build/image.tar && exit "$FOUND" ;;
esac
"""
HOOK = """#!/bin/sh
env | grep ^GIT_PUSH_OPTION_ > "$RECORD"
"""


@pytest.fixture(scope="module")
def emitted_for(bench: Workbench) -> Callable[[str], Path]:
    return lambda ci: bench.once(
        f"ci/{ci}", lambda folder: render(bench.template(), folder, {"ci": ci})
    )


@pytest.fixture(params=["ours", "github", "gitlab"])
def project(request: pytest.FixtureRequest, emitted_for: Callable[[str], Path]) -> Path:
    return template_root() if request.param == "ours" else emitted_for(request.param)


def run(program: str, *arguments: object) -> None:
    command = [str(PROGRAMS / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_others_read_follows_its_schema(project: Path) -> None:
    schemas = {
        "github-workflows": sorted(project.glob(".github/workflows/*.yml")),
        "gitlab-ci": sorted(project.glob(".gitlab-ci.yml")),
        "compose-spec": sorted(project.glob("compose.yaml")),
        "dependabot": sorted(project.glob(".github/dependabot.yml")),
        "renovate": sorted(project.glob("renovate.json")),
    }
    assert schemas["github-workflows"] or schemas["gitlab-ci"]
    for schema, files in schemas.items():
        if files:
            run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@pytest.mark.parametrize("project", ["ours", "github"], indirect=True)
def test_the_workflows_are_safe(project: Path) -> None:
    options = ["--offline", "--no-progress", "--strict-collection", "--no-config"]
    strict = ["--persona", "auditor", "--min-severity", "low"]
    run("zizmor", *options, *strict, project / ".github")


@pytest.mark.parametrize("project", ["ours", "github"], indirect=True)
def test_every_job_ends_in_time_and_says_what_it_may_do(project: Path) -> None:
    for path in project.glob(".github/workflows/*.yml"):
        workflow = yaml.safe_load(path.read_bytes())
        assert workflow["permissions"] == {}
        for job in workflow["jobs"].values():
            assert job.keys() >= {"permissions", "timeout-minutes"}


def test_ci_builds_asks_and_scans_the_image(emitted_for: Callable[[str], Path]) -> None:
    github = yaml.safe_load((emitted_for("github") / ".github/workflows/ci.yml").read_bytes())
    gitlab = yaml.safe_load((emitted_for("gitlab") / ".gitlab-ci.yml").read_bytes())
    commands = [step["run"] for step in github["jobs"]["image"]["steps"] if "run" in step]
    assert commands == gitlab["container"]["script"] == ["make image-check", "make image-scan"]


@pytest.mark.parametrize("found", [0, 1])
def test_the_scan_fails_where_something_is_found(
    found: int, emitted_for: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(emitted_for("github") / name, tmp_path)
    executable(tmp_path / "docker", DOCKER)
    command = ["make", "--silent", "image-scan", "DOCKER=./docker"]
    environment = {**os.environ, "FOUND": str(found)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    assert bool(done.returncode) == bool(found)


@dataclass
class Forge:
    """A project with a bare repository as its origin, and what it was asked for."""

    project: Path
    origin: Git
    record: Path
    pull_requests: Path
    environment: dict[str, str]

    @classmethod
    def of(cls, project: Path, folder: Path) -> "Forge":
        origin = Git(folder / "origin.git")
        origin.folder.mkdir()
        origin.raw("init", "--quiet", "--bare")
        git = Git(project)
        git.raw("remote", "add", "origin", str(origin.folder))
        git.raw("push", "--quiet", "origin", "main")
        programs = folder / "programs"
        programs.mkdir()
        executable(programs / "gh", GH)
        (folder / "pull-requests").touch()
        (folder / "record").touch()
        path = (str(programs), str(PROGRAMS), os.environ["PATH"])
        environment = {
            **os.environ,
            "COPIER_SETTINGS_PATH": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH": os.pathsep.join(path),
            "PULL_REQUESTS": str(folder / "pull-requests"),
            "RECORD": str(folder / "record"),
        }
        return cls(project, origin, folder / "record", folder / "pull-requests", environment)

    def run(self, script: str, environment: Mapping[str, str]) -> int:
        command = ["bash", "-eo", "pipefail", "-c", script]
        return subprocess.run(
            command,
            cwd=self.project,
            env={**self.environment, **environment},
            check=False,
        ).returncode

    @property
    def branches(self) -> list[str]:
        return self.origin.text("branch", "--format=%(refname:short)").splitlines()

    def show(self, file: str) -> str:
        return self.origin.text("show", f"{BRANCH}:{file}")


def executable(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def run_on_github(forge: Forge) -> int:
    """Run the job as GitHub would, from where its dependencies are installed."""
    workflow = yaml.safe_load((forge.project / ".github/workflows/update.yml").read_bytes())
    (job,) = workflow["jobs"].values()
    installing, updating, proposing = (step for step in job["steps"] if "run" in step)
    assert installing["run"] == INSTALLING
    assert (updating["id"], proposing["if"]) == ("update", "steps.update.outputs.branch")
    outputs = forge.record.with_name("outputs")
    code = forge.run(updating["run"], {"GITHUB_OUTPUT": str(outputs)})
    if code:
        return code
    branch = outputs.read_text().strip().removeprefix("branch=")
    return forge.run(proposing["run"], {"BRANCH": branch}) if branch else 0


@pytest.mark.slow
def test_on_github_the_update_becomes_a_pull_request(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project()
    forge = Forge.of(project, tmp_path)
    assert run_on_github(forge) == 0
    assert forge.branches == ["main", BRANCH]
    assert forge.origin.text("rev-parse", f"{BRANCH}^") == forge.origin.text("rev-parse", "main")
    assert f"_commit: {NEWEST}" in forge.show(".copier-answers.yml")
    assert "since 0.3.0" in forge.show("src/service/core/processors.py")
    asked = forge.record.read_text()
    assert (
        f"pr create --head {BRANCH} --title Update the template to {NEWEST} --body-file -" in asked
    )
    assert "Conflicts" not in asked


@pytest.mark.slow
def test_on_github_the_pull_request_names_the_conflicts(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project()
    edit(project, {"Dockerfile": first("# Mine.")})
    commit(Git(project), "edits")
    forge = Forge.of(project, tmp_path)
    assert run_on_github(forge) == 0
    asked = forge.record.read_text()
    assert "Conflicts; choose between the marked lines:\n\n```text\nDockerfile\n```" in asked
    assert "<<<<<<<" in forge.show("Dockerfile")


@pytest.mark.slow
def test_on_github_nothing_happens_without_a_newer_version(
    make_project: MakeProject, tmp_path: Path
) -> None:
    forge = Forge.of(make_project(version=NEWEST), tmp_path)
    assert run_on_github(forge) == 0
    assert forge.branches == ["main"]
    assert forge.record.read_text() == ""


@pytest.mark.slow
def test_on_github_a_closed_pull_request_stays_closed(
    make_project: MakeProject, tmp_path: Path
) -> None:
    forge = Forge.of(make_project(), tmp_path)
    forge.pull_requests.write_text("7\n", encoding="utf-8")
    assert run_on_github(forge) == 0
    assert forge.branches == ["main"]
    assert "pr create" not in forge.record.read_text()


@pytest.mark.slow
def test_on_github_the_pull_request_names_the_files_that_are_gone(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project()
    edit(project, {".env.example": first("# Mine, and the template's no longer.")})
    commit(Git(project), "edits")
    forge = Forge.of(project, tmp_path)
    assert run_on_github(forge) == 0
    _, _, gone = forge.record.read_text().partition("Deleted, also if you had edited them:")
    assert "\n.env.example\n" in gone


@pytest.mark.slow
@pytest.mark.parametrize("script", ["echo new > uv.lock", "exit 2"], ids=["follows", "fails"])
def test_on_github_uv_lock_follows_or_is_named(
    script: str, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project()
    edit(project, {"uv.lock": new("old\n")})
    commit(Git(project), "locked")
    forge = Forge.of(project, tmp_path)
    executable(tmp_path / "programs/uv", f"#!/bin/sh\n{script}\n")
    assert run_on_github(forge) == 0
    follows = "new" in script
    assert forge.show("uv.lock") == ("new" if follows else "old")
    told = "For the old dependencies; run 'uv lock':\n\n```text\nuv.lock\n```"
    assert (told in forge.record.read_text()) == (not follows)


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_nothing_is_installed_that_has_no_version_and_hash(
    ci: str, emitted_for: Callable[[str], Path]
) -> None:
    project = emitted_for(ci)
    pinned = (project / "scripts/update-requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in pinned.splitlines() if not line.startswith(("#", " "))]
    assert any(line.startswith("copier==") for line in lines)
    assert all("==" in line and line.endswith("\\") for line in lines)
    for path in (*project.rglob("*.yml"), *project.rglob("*.sh")):
        for line in path.read_text(encoding="utf-8").splitlines():
            command = line.strip(" -")
            assert not re.search(r"\b(pip|pipx|uvx|uv) .*\binferplate\b", command), line


@pytest.mark.slow
def test_a_template_out_of_reach_fails_the_job(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project()
    answers = project / ".copier-answers.yml"
    recorded: dict[str, Any] = yaml.safe_load(answers.read_bytes())
    answers.write_text(yaml.safe_dump({**recorded, "_src_path": str(tmp_path / "gone.git")}))
    commit(Git(project), "elsewhere")
    forge = Forge.of(project, tmp_path)
    assert run_on_github(forge) != 0
    assert forge.branches == ["main"]


def run_on_gitlab(forge: Forge) -> int:
    pipeline = yaml.safe_load((forge.project / ".gitlab-ci.yml").read_bytes())
    job = pipeline["update"]
    installing, *preparing = job["before_script"]
    assert installing == INSTALLING
    variables = {
        "CI_PROJECT_PATH": "team/service",
        "CI_SERVER_HOST": "gitlab.example",
        "CI_SERVER_PORT": "443",
        "CI_SERVER_PROTOCOL": "https",
        "GITLAB_USER_EMAIL": "user@example.org",
        "GITLAB_USER_NAME": "A User",
        "UPDATE_TOKEN": "a-token",
    }
    return forge.run("\n".join([*preparing, *job["script"]]), variables)


@pytest.mark.slow
def test_on_gitlab_the_update_becomes_a_merge_request_once(
    bench: Workbench, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    copier.run_copy(
        str(history(bench)),
        project,
        data={**ALL_VARIANTS[0].answers(), "ci": "gitlab"},
        vcs_ref=OLDEST,
        defaults=True,
        quiet=True,
        settings=copier.Settings(),
    )
    git = repository(project)
    forge = Forge.of(project, tmp_path)
    forge.origin.raw("config", "receive.advertisePushOptions", "true")
    executable(forge.origin.folder / "hooks/post-receive", HOOK)
    git.raw("config", f"url.{forge.origin.folder}.insteadOf", ADDRESS)
    assert run_on_gitlab(forge) == 0
    assert forge.branches == ["main", BRANCH]
    assert f"_commit: {NEWEST}" in forge.show(".copier-answers.yml")
    assert sorted(line.partition("=")[2] for line in forge.record.read_text().splitlines()) == [
        "2",
        "merge_request.create",
        "merge_request.remove_source_branch",
    ]
    message = forge.origin.text("log", "-1", "--format=%B", BRANCH)
    assert message.startswith(f"Update the template to {NEWEST}\n")
    proposed = forge.origin.text("rev-parse", BRANCH)
    git.raw("switch", "--quiet", "main")
    git.raw("branch", "--quiet", "--delete", "--force", BRANCH)
    git.raw("config", "user.name", "Another User")
    assert run_on_gitlab(forge) == 0
    assert forge.origin.text("rev-parse", BRANCH) == proposed
