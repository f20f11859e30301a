"""The wheel carries the template, and works where there is no checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EVERY_VARIANT
from history import OLDEST, files, first, history, release, repository

from inferplate.git import Git
from inferplate.project.project import Project
from inferplate.template.releases import address
from inferplate.template.source import PUBLIC_ADDRESS, installed_version, template_root
from inferplate_tools.verify.hygiene import tree
from inferplate_tools.workbench import Workbench


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack a wheel of the checkout into a folder."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder)]
    subprocess.run([*command, str(template_root())], check=True)
    (wheel,) = folder.glob("*.whl")
    command = [sys.executable, "-m", "zipfile", "-e", str(wheel), str(folder / "site")]
    subprocess.run(command, check=True)
    return folder / "site"


def test_the_wheel_carries_the_template(installed: Path) -> None:
    carried = tree(installed / "inferplate/_template")
    expected = {"copier.yml": (template_root() / "copier.yml").read_bytes()}
    for name, content in tree(template_root() / "template").items():
        if not re.search(r"(^|/)(__pycache__|\.\w+_cache)/", name):
            expected[f"template/{name}"] = content
    assert {name: carried.get(name) for name in expected} == expected


def test_the_wheel_carries_nothing_of_developers(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {
        "inferplate"
    }
    (metadata,) = installed.glob("*.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: ([\w-]+)", metadata.read_text("utf-8"), re.MULTILINE)
    imported = {
        name
        for path in (installed / "inferplate").rglob("*.py")
        if "_template" not in path.parts
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    modules = {"pyyaml": "yaml"}
    assert {modules.get(name, name) for name in required} == (
        imported - set(sys.stdlib_module_names) - {"inferplate"}
    )


def test_the_wheel_says_under_which_terms_it_comes(installed: Path) -> None:
    (described,) = installed.glob("inferplate-*.dist-info")
    metadata = (described / "METADATA").read_text(encoding="utf-8")
    assert "License-Expression: MIT AND MIT-0\n" in metadata
    for name in ("LICENSE", "template/LICENSE"):
        text = (described / "licenses" / name).read_text(encoding="utf-8")
        assert text == (template_root() / name).read_text(encoding="utf-8")
        assert "The inferplate authors" in text


def test_the_installed_tool_finds_it(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inferplate", "variants", "--framework", "ninja"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    offered = [variant for variant in EVERY_VARIANT if variant.framework == "ninja"]
    assert f"{len(offered)} combinations" in done.stdout
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from inferplate.template import source as s; print(s.template_root())",
        ],
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == installed / "inferplate/_template"


@pytest.fixture
def environment(installed: Path, bench: Workbench, tmp_path: Path) -> dict[str, str]:
    """Stand in for a machine with the wheel, where the public address leads to a folder.

    In that repository the wheel's version is tagged, and a later one.
    """
    public = Path(shutil.copytree(history(bench), tmp_path / "public"))
    git = Git(public)
    git.raw("checkout", "--quiet", "-B", "main", OLDEST)
    for tag in git.text("tag").splitlines():
        git.raw("tag", "--delete", tag)
    git.raw("tag", installed_version())
    release(public, "v99.0.0", {"template/service/Makefile.jinja": first("# since 99")})
    return {
        "COPIER_CACHE_DIR": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{public}.insteadOf",
        "GIT_CONFIG_VALUE_0": address(PUBLIC_ADDRESS),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
    }


def test_the_wheel_and_git_give_identical_projects_that_updates_know(
    environment: dict[str, str], tmp_path: Path
) -> None:
    def run(*command: str) -> None:
        command = (sys.executable, "-m", *command)
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    given = {"framework": "litestar", "runtime": "python", "licence": "MIT"}
    answers = [f"{name}={value}" for name, value in given.items()]
    version = installed_version()
    data = [part for answer in answers for part in ("--data", answer)]
    run("copier", "copy", "--defaults", "--vcs-ref", version, *data, PUBLIC_ADDRESS, "by-copier")
    sets = [part for answer in answers for part in ("--set", answer)]
    run(
        "inferplate",
        "new",
        "by-new",
        "--defaults",
        "--no-git",
        "--name",
        "Inference service",
        *sets,
    )
    project = tmp_path / "by-new"
    assert files(project) == files(tmp_path / "by-copier")
    assert Project.read(project).source == PUBLIC_ADDRESS
    assert Project.read(project).version == version
    repository(project)
    run("inferplate", "update", "by-new")
    assert Project.read(project).version == "v99.0.0"
    assert (project / "Makefile").read_text(encoding="utf-8").startswith("# since 99\n")
