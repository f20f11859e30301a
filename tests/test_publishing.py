"""What CI publishes: pinned, with SBOM and provenance, signed, and only where it was asked to."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferplate.git import Git
from inferplate.template.render import render
from inferplate_tools.workbench import Workbench

BIN = Path(sys.executable).parent
DIGEST = f"sha256:{'a' * 64}"
PINNED = f"FROM python:3.12-slim@{DIGEST} AS pinned"
IMAGE = "ghcr.io/team/churn"
PROGRAM = """#!/bin/sh
printf '%s' "$(basename "$0")" >>"$RECORD"
printf ' %s' "$@" >>"$RECORD"
echo >>"$RECORD"
case "$1 $2" in
    "login --username") sed 's/^/password /' >>"$RECORD"; echo >>"$RECORD" ;;
    "buildx build") [ "$BUILDS" = fails ] && exit 1; echo "$METADATA" >build/image.json ;;
    "buildx imagetools") printf '%s\\n' "$INSPECTED" ;;
esac
exit 0
"""
METADATA = json.dumps({"buildx.build.ref": "x/y", "containerimage.digest": DIGEST}, indent=2)


@pytest.fixture(scope="module")
def emitted_for(bench: Workbench) -> Callable[[str], Path]:
    return lambda ci: bench.once(
        f"publishing/{ci}", lambda folder: render(bench.template(), folder, {"ci": ci})
    )


def github(project: Path) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((project / ".github/workflows/ci.yml").read_bytes())
    return job


def gitlab(project: Path) -> dict[str, Any]:
    pipeline: dict[str, Any] = yaml.safe_load((project / ".gitlab-ci.yml").read_bytes())
    return pipeline


@dataclass
class Checkout:
    """A project with what a published image needs, and stand-ins for docker and cosign."""

    project: Path
    record: Path
    programs: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.programs), os.environ["PATH"]])
        given = {"BUILDS": "", "INSPECTED": "", "METADATA": METADATA, **environment}
        return subprocess.run(
            command,
            cwd=self.project,
            env={"HOME": str(self.programs), "PATH": path, "RECORD": str(self.record), **given},
            capture_output=True,
            text=True,
            check=False,
        )

    def publish(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"REGISTRY_IMAGE": IMAGE, **environment}
        return self.run("sh", "scripts/publish-image.sh", *arguments, **given)

    @property
    def recorded(self) -> list[str]:
        return self.record.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def checkout_for(emitted_for: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Checkout]:
    def make(ci: str) -> Checkout:
        project = tmp_path / "project"
        shutil.copytree(emitted_for(ci), project)
        (project / "uv.lock").touch()
        dockerfile = project / "Dockerfile"
        text = dockerfile.read_text(encoding="utf-8")
        assert text.count("FROM python:3.12-slim AS pinned\n") == 1
        dockerfile.write_text(text.replace("FROM python:3.12-slim AS pinned", PINNED))
        git = Git(project)
        git.raw("init", "--quiet", "--initial-branch=main")
        git.raw("add", "--all")
        identity = ("-c", "user.name=A User", "-c", "user.email=user@example.org")
        git.raw(*identity, "commit", "--quiet", "--message=a service")
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("docker", "cosign"):
            (programs / name).write_text(PROGRAM, encoding="utf-8")
            (programs / name).chmod(0o755)
        (tmp_path / "record").touch()
        return Checkout(project, tmp_path / "record", programs)

    return make


@pytest.fixture
def checkout(checkout_for: Callable[[str], Checkout]) -> Checkout:
    return checkout_for("github")


def test_a_tag_is_pushed_with_sbom_and_provenance_and_signed_by_its_digest(
    checkout: Checkout,
) -> None:
    revision = Git(checkout.project).text("rev-parse", "HEAD")
    done = checkout.publish("v0.1.0", RUN_URL="https://ci.example/runs/7")
    assert done.returncode == 0, done.stderr
    built, signed = checkout.recorded
    cache = f"type=registry,ref={IMAGE}:buildcache"
    assert built == (
        "docker buildx build --push --sbom=true"
        " --provenance=mode=max,builder-id=https://ci.example/runs/7"
        f" --cache-from {cache}"
        f" --cache-to {cache},mode=max,image-manifest=true,ignore-error=true"
        f" --build-arg VERSION=0.1.0 --build-arg REVISION={revision}"
        f" --metadata-file build/image.json --tag {IMAGE}:0.1.0 ."
    )
    assert signed == f"cosign sign --yes {IMAGE}@{DIGEST}"
    assert done.stdout.splitlines()[-1] == f"{IMAGE}:0.1.0@{DIGEST}"


def test_without_a_tag_the_image_is_that_of_main(checkout: Checkout) -> None:
    done = checkout.publish("", BUILD_ARGS="--build-arg HTTPS_PROXY=http://proxy.example --pull")
    assert done.returncode == 0, done.stderr
    (built, signed) = checkout.recorded
    assert " --provenance=mode=max " in built
    end = f"--tag {IMAGE}:main --build-arg HTTPS_PROXY=http://proxy.example --pull ."
    assert built.endswith(end)
    assert signed.startswith("cosign sign")


def test_a_password_logs_in_and_is_no_argument(checkout: Checkout) -> None:
    given = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "a secret"}
    done = checkout.publish(REGISTRY_IMAGE="localhost:5000/team/churn", **given)
    assert done.returncode == 0, done.stderr
    assert checkout.recorded[:2] == [
        "docker login --username me --password-stdin localhost:5000",
        "password a secret",
    ]
    assert "a secret" not in done.stdout + done.stderr


def unlocked(project: Path) -> None:
    (project / "uv.lock").unlink()


def unpinned(project: Path) -> None:
    path = project / "Dockerfile"
    path.write_text(path.read_text(encoding="utf-8").replace(f"@{DIGEST}", ""), encoding="utf-8")


def nothing(project: Path) -> None:
    """Leave the project as it is."""


@pytest.mark.parametrize(
    ("spoil", "tag", "environment", "told"),
    [
        (nothing, "v0.2.0", {}, "the tag v0.2.0 is not v0.1.0: pyproject.toml has version 0.1.0"),
        (unlocked, "v0.1.0", {}, "there is no uv.lock: run 'make lock', and commit it"),
        (unpinned, "v0.1.0", {}, "the base python:3.12-slim has no digest: run 'make lock-base'"),
        (
            nothing,
            "",
            {"BUILD_ARGS": "--pull --build-arg BASE=mirror.example/python:3.12 --no-cache"},
            "the base mirror.example/python:3.12 has no digest",
        ),
        (nothing, "", {"REGISTRY_IMAGE": "churn"}, "as in docker.io/team/churn"),
        (nothing, "", {"REGISTRY_IMAGE": "team/churn"}, "as in docker.io/team/churn"),
        (nothing, "", {"REGISTRY_IMAGE": f"{IMAGE}:1"}, "leave out the tag"),
        (nothing, "", {"REGISTRY_IMAGE": f"{IMAGE}@{DIGEST}"}, "leave out the tag"),
    ],
)
def test_what_is_not_pinned_or_not_named_is_refused_before_anything_is_built(
    checkout: Checkout,
    spoil: Callable[[Path], None],
    tag: str,
    environment: dict[str, str],
    told: str,
) -> None:
    spoil(checkout.project)
    done = checkout.publish(tag, REGISTRY_PASSWORD="a secret", **environment)  # noqa: S106
    assert done.returncode == 1
    assert done.stderr.startswith("publish-image: ")
    assert told in done.stderr
    assert checkout.recorded == []


def test_another_base_counts_by_its_own_digest(checkout: Checkout) -> None:
    unpinned(checkout.project)
    base = f"--build-arg BASE=mirror.example/python@{DIGEST}"
    assert checkout.publish("", BUILD_ARGS=base).returncode == 0


@pytest.mark.parametrize(
    ("environment", "told"),
    [({"BUILDS": "fails"}, ""), ({"METADATA": "{}"}, "did not say which digest it pushed")],
)
def test_what_was_not_pushed_is_not_signed(
    checkout: Checkout, environment: dict[str, str], told: str
) -> None:
    done = checkout.publish("v0.1.0", **environment)
    assert done.returncode == 1
    assert told in done.stderr
    assert not any(line.startswith("cosign") for line in checkout.recorded)


def test_github_publishes_what_is_pushed_where_a_variable_names_a_registry(
    emitted_for: Callable[[str], Path],
) -> None:
    workflow = github(emitted_for("github"))
    jobs = workflow["jobs"]
    assert jobs["publish"]["if"] == (
        "github.event_name == 'push' && vars.REGISTRY_IMAGE != '' "
        "&& (github.ref_type == 'tag' || vars.PUBLISH_MAIN == 'true')"
    )
    assert {*jobs["publish"]["needs"]} == jobs.keys() - {"publish"}
    writes = {
        (name, scope)
        for name, job in jobs.items()
        for scope, access in job["permissions"].items()
        if access == "write"
    }
    assert writes == {("publish", "id-token"), ("publish", "packages")}
    cancelled = workflow["concurrency"]["cancel-in-progress"]
    assert "pull_request" in cancelled
    secret = [name for name, job in jobs.items() if "secrets." in json.dumps(job)]
    assert secret == ["publish"]


def test_github_gives_its_token_to_its_own_registry_alone(
    emitted_for: Callable[[str], Path],
) -> None:
    (step,) = (
        step for step in github(emitted_for("github"))["jobs"]["publish"]["steps"] if "env" in step
    )
    chosen = "startsWith(vars.REGISTRY_IMAGE, 'ghcr.io/') && github.token"
    assert f"{chosen} || secrets.REGISTRY_PASSWORD" in step["env"]["REGISTRY_PASSWORD"]
    assert json.dumps(step).count("github.token") == 1


def test_githubs_job_runs_the_script(checkout: Checkout) -> None:
    *_, builder, step = github(checkout.project)["jobs"]["publish"]["steps"]
    given = {"GIT_TAG": "v0.1.0", "REGISTRY_IMAGE": IMAGE, "RUN_URL": "https://ci.example/7"}
    assert step["env"].keys() >= given.keys()
    for run in (builder["run"], step["run"]):
        done = checkout.run("bash", "-eo", "pipefail", "-c", run, **given)
        assert done.returncode == 0, done.stderr
    created, built, signed = checkout.recorded
    assert created == "docker buildx create --use"
    assert f"--tag {IMAGE}:0.1.0" in built
    assert signed == f"cosign sign --yes {IMAGE}@{DIGEST}"


def holds(rule: str, variables: Mapping[str, str]) -> bool:
    """Evaluate a rule of GitLab's, for the operators that ours have."""
    if "||" in rule:
        return any(holds(part, variables) for part in rule.split("||"))
    if "&&" in rule:
        return all(holds(part, variables) for part in rule.split("&&"))
    words = rule.split()
    value = variables.get(words[0].removeprefix("$"))
    match words[1:]:
        case []:
            return bool(value)
        case ["!=", other]:
            return value != other.strip('"')
        case ["==", "null"]:
            return value is None
        case ["==", other]:
            known = variables.get(other.removeprefix("$")) if other[0] == "$" else other.strip('"')
            return value == known
        case ["=~", "/^v/"]:
            return (value or "").startswith("v")
    raise AssertionError(rule)


def runs(rules: list[dict[str, str]], variables: Mapping[str, str]) -> bool:
    for rule in rules:
        if holds(rule["if"], variables):
            return rule.get("when") != "never"
    return False


MAIN = {"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "CI_PIPELINE_SOURCE": "push"}
TAG = {"CI_COMMIT_TAG": "v0.1.0", "CI_DEFAULT_BRANCH": "main", "CI_PIPELINE_SOURCE": "push"}
CHANGE = {"CI_DEFAULT_BRANCH": "main", "CI_PIPELINE_SOURCE": "merge_request_event"}
TO = {"REGISTRY_IMAGE": IMAGE}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TAG, False),
        ({**TAG, "REGISTRY_IMAGE": ""}, False),
        (TAG | TO, True),
        (MAIN | TO, False),
        ({**MAIN, **TO, "PUBLISH_MAIN": "true"}, True),
        ({**MAIN, "PUBLISH_MAIN": "true"}, False),
        ({**MAIN, **TO, "PUBLISH_MAIN": "true", "CI_PIPELINE_SOURCE": "schedule"}, False),
        ({**CHANGE, **TO, "PUBLISH_MAIN": "true"}, False),
    ],
)
def test_gitlab_publishes_where_a_variable_names_a_registry(
    variables: dict[str, str], expected: bool, emitted_for: Callable[[str], Path]
) -> None:
    pipeline = gitlab(emitted_for("gitlab"))
    assert runs(pipeline["workflow"]["rules"], variables)
    assert runs(pipeline["publish"]["rules"], variables) == expected
    assert {*pipeline["publish"]["needs"]} == {"tests", "container"}
    assert pipeline["publish"]["id_tokens"] == {"SIGSTORE_ID_TOKEN": {"aud": "sigstore"}}
    for job in ("tests", "container"):
        assert runs(pipeline[job]["rules"], variables) == ("schedule" not in variables.values())


@pytest.mark.parametrize(
    ("image", "logged_in"),
    [
        ("registry.example/team/churn", "me-of-ci --password-stdin registry.example"),
        ("elsewhere.example/team/churn", "me --password-stdin elsewhere.example"),
    ],
)
def test_gitlabs_job_runs_the_script(
    image: str, logged_in: str, checkout_for: Callable[[str], Checkout]
) -> None:
    checkout = checkout_for("gitlab")
    job = gitlab(checkout.project)["publish"]
    docker = [line for line in job["before_script"] if line.startswith("docker ")]
    script = "\n".join([*docker, *job["script"]])
    done = checkout.run(
        *("sh", "-ec", script),
        CI_COMMIT_TAG="v0.1.0",
        CI_REGISTRY="registry.example",
        CI_REGISTRY_PASSWORD="of ci",  # noqa: S106
        CI_REGISTRY_USER="me-of-ci",
        REGISTRY_IMAGE=image,
        REGISTRY_PASSWORD="mine",  # noqa: S106
        REGISTRY_USERNAME="me",
    )
    assert done.returncode == 0, done.stderr
    context, builder, login, password, built, signed = checkout.recorded
    assert (context, builder) == (
        "docker context create engine",
        "docker buildx create --use engine",
    )
    assert login == f"docker login --username {logged_in}"
    assert password == ("password of ci" if "of-ci" in logged_in else "password mine")
    assert f"--tag {image}:0.1.0" in built
    assert signed == f"cosign sign --yes {image}@{DIGEST}"


def test_gitlab_runs_no_cosign_that_it_has_not_checked(
    checkout_for: Callable[[str], Checkout],
) -> None:
    checkout = checkout_for("gitlab")
    lines = gitlab(checkout.project)["publish"]["before_script"]
    fetched, checked, *_ = (line for line in lines if "cosign" in line)
    there = checkout.programs / "fetched"
    there.write_text("something else", encoding="utf-8")
    assert "/usr/local/bin/cosign" in fetched
    done = checkout.run("sh", "-ec", checked.replace("/usr/local/bin/cosign", str(there)))
    assert done.returncode != 0


@pytest.mark.parametrize("before", ["FROM python:3.12-slim AS pinned", PINNED])
def test_make_lock_base_pins_the_newest_base(checkout: Checkout, before: str) -> None:
    path = checkout.project / "Dockerfile"
    path.write_text(path.read_text(encoding="utf-8").replace(PINNED, before), encoding="utf-8")
    newest = f"sha256:{'b' * 64}"
    inspected = f"Name:      docker.io/library/python:3.12-slim\nDigest:    {newest}\n\nManifests:"
    done = checkout.run("make", "lock-base", INSPECTED=inspected)
    assert done.returncode == 0, done.stderr
    assert checkout.recorded == ["docker buildx imagetools inspect python:3.12-slim"]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert f"FROM python:3.12-slim@{newest} AS pinned" in lines
    assert not (checkout.project / "Dockerfile.new").exists()


def test_make_lock_base_leaves_the_dockerfile_where_no_digest_is_told(checkout: Checkout) -> None:
    before = (checkout.project / "Dockerfile").read_bytes()
    done = checkout.run("make", "lock-base")
    assert done.returncode != 0
    assert "cannot tell the digest of python:3.12-slim" in done.stderr
    assert (checkout.project / "Dockerfile").read_bytes() == before


def test_the_base_that_is_pinned_is_the_one_that_is_built_on(
    emitted_for: Callable[[str], Path],
) -> None:
    text = (emitted_for("github") / "Dockerfile").read_text(encoding="utf-8")
    used = [line for line in text.splitlines() if line.startswith(("ARG BASE", "FROM "))]
    assert used[:3] == [
        "ARG BASE=pinned",
        "FROM python:3.12-slim AS pinned",
        "FROM ${BASE} AS base",
    ]
    assert all(line.split()[1] in ("base", "build") for line in used[3:])


def test_with_a_lock_make_changes_nothing_in_it(checkout: Checkout) -> None:
    for name in ("uv", "python"):
        (checkout.programs / name).write_text(PROGRAM, encoding="utf-8")
        (checkout.programs / name).chmod(0o755)
    for target in ("run", "train", "test", "lint"):
        assert checkout.run("make", target).returncode == 0
    assert checkout.recorded
    assert all(line.startswith("uv run --locked ") for line in checkout.recorded)
    unlocked(checkout.project)
    checkout.record.write_text("")
    checkout.run("make", "test")
    assert checkout.recorded[-1] == "uv run pytest"


def test_a_stale_lock_stops_make_and_uv_says_what_to_do(checkout: Checkout) -> None:
    """Do it with uv itself, without a network: the project depends on nothing."""
    project = checkout.project
    (project / "models").mkdir()
    (project / "models/manifest.json").touch()
    head = '[project]\nname = "churn"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
    (project / "pyproject.toml").write_text(f"{head}dependencies = []\n")
    unlocked(project)
    (checkout.programs / "uv").symlink_to(BIN / "uv")
    offline = {"UV_OFFLINE": "1", "UV_PYTHON": sys.executable, "UV_NO_CONFIG": "1"}
    locked = checkout.run("uv", "lock", **offline)
    assert locked.returncode == 0, locked.stderr
    before = (project / "uv.lock").read_bytes()
    (project / "pyproject.toml").write_text(f"{head}dependencies = []\n".replace("3.11", "3.10"))
    done = checkout.run("make", "test", **offline)
    assert done.returncode != 0
    assert "run `uv lock`" in done.stderr
    assert (project / "uv.lock").read_bytes() == before


def test_dependabot_leaves_the_templates_pins_to_the_template(
    emitted_for: Callable[[str], Path],
) -> None:
    project = emitted_for("github")
    config = yaml.safe_load((project / ".github/dependabot.yml").read_bytes())
    updates = {each["package-ecosystem"]: each for each in config["updates"]}
    assert updates.keys() == {"docker", "uv", "github-actions"}
    emitted = {
        path.relative_to(project).as_posix() for path in project.glob(".github/workflows/*.yml")
    }
    assert {*updates["github-actions"]["exclude-paths"]} == emitted
    assert updates["uv"]["versioning-strategy"] == "lockfile-only"
    requirements = {
        path.relative_to(project).as_posix() for path in project.rglob("*requirements*.txt")
    }
    assert {*updates["uv"]["exclude-paths"]} == requirements
    (ignored,) = updates["docker"]["ignore"]
    text = (project / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM {ignored['dependency-name']}:" in text
    assert {each.rpartition("-")[2] for each in ignored["update-types"]} == {"major", "minor"}


def test_renovate_leaves_the_templates_pins_to_the_template(
    emitted_for: Callable[[str], Path],
) -> None:
    config = json.loads((emitted_for("gitlab") / "renovate.json").read_bytes())
    assert config["enabledManagers"] == ["dockerfile", "pep621"]
    off = {
        manager: {*rule["matchUpdateTypes"]}
        for rule in config["packageRules"]
        for manager in rule["matchManagers"]
        if rule["enabled"] is False
    }
    assert off["dockerfile"] == {"major", "minor", "patch"}
    assert off["pep621"] >= {"major", "minor", "patch", "pin"}
    assert config["lockFileMaintenance"] == {"enabled": True}


@pytest.mark.parametrize("ci", ["github", "gitlab", "none"])
def test_each_forge_gets_its_own_files(ci: str, emitted_for: Callable[[str], Path]) -> None:
    project = emitted_for(ci)
    assert (project / ".github/dependabot.yml").exists() == (ci == "github")
    assert (project / "renovate.json").exists() == (ci == "gitlab")
    assert (project / "scripts/publish-image.sh").exists() == (ci != "none")
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert ("REGISTRY_IMAGE" in readme) == (ci != "none")
    assert ("Dependabot" in readme, "Renovate" in readme) == (ci == "github", ci == "gitlab")
