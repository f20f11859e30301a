"""What ``make test`` says before it installs anything, and what the emitted README installs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_pythons import PYTHONS, find

from inferplate.template.render import render
from inferplate.template.source import template_root


@pytest.mark.parametrize("target", ["test", "test-quick", "test-images"])
def test_what_will_be_installed_is_said_before_it_is(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path / 'none'}"],  # noqa: S607
        cwd=template_root(),
        capture_output=True,
        text=True,
        check=True,
    )
    said, _, installed = done.stdout.partition("pip install")
    assert re.search(r"is installed into .*\n? *'3 GB, 5 to 15 minutes", said)
    assert "tests/system-packages" in said
    assert "--group test" in installed


@pytest.mark.parametrize("user", [0, 1000])
def test_an_ordinary_user_is_told_what_to_ask_the_administrator_for(
    user: int, tmp_path: Path
) -> None:
    for name in ("bash", "grep", "ldconfig"):
        (tmp_path / name).symlink_to(shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") or "")
    for name, text in {"id": f"echo {user}", "apt-get": 'echo "apt-get $@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "bash", template_root() / "tests/system-packages"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if user else 0)
    if user:
        told = done.stderr.splitlines()[-1]
        assert told.startswith("Ask your administrator for: apt-get install --no-install-")
        assert "chromium-driver" in told
        assert done.stdout == ""
    else:
        assert done.stdout.startswith("Installing Debian packages, which takes")


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_emitted_readme_installs_with_the_pip_of_a_fresh_environment(
    version: str, template: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    if version != PYTHONS[0] and not pytestconfig.getoption("--exhaustive"):
        pytest.skip("only with --exhaustive: the oldest pip is the one that lacks options")
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version}")
    project = render(template, tmp_path / "service", {"runtime": "python"})
    readme = (project / "README.md").read_text(encoding="utf-8")
    ((block, install),) = re.findall(
        r"```sh\n(python3 -m venv .*?)^(pip install --editable .*?)$", readme, re.DOTALL | re.M
    )
    # Without what it depends on, and the build: only whether pip knows what it is told.
    script = f"set -e\n{block}\n{install} --no-deps --dry-run --no-build-isolation"
    script = script.replace("--editable . ", "")
    path = os.pathsep.join([str(Path(interpreter).resolve().parent), os.environ["PATH"]])
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=project,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stdout
