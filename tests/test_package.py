"""The wheel carries the template, and works where there is no checkout."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from inferplate.hygiene import tree
from inferplate.source import template_root


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
    for folder in ("template", "tests/snapshots"):
        for name, content in tree(template_root() / folder).items():
            if not re.search(r"(^|/)(__pycache__|\.\w+_cache)/", name):
                expected[f"{folder}/{name}"] = content
    assert {name: carried.get(name) for name in expected} == expected


def test_the_wheel_carries_what_is_measured(installed: Path) -> None:
    carried = tree(installed / "inferplate/_benchmarks")
    for folder in ("peers", "service"):
        files = tree(template_root() / "benchmarks" / folder)
        expected = {f"{folder}/{name}": files[name] for name in files if "__pycache__" not in name}
        assert expected
        assert {name: carried.get(name) for name in expected} == expected
    assert (installed / "inferplate/bench/load.lua").is_file()


def test_the_installed_tool_finds_it(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inferplate", "variants", "--framework", "ninja"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "32 combinations" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", "from inferplate.source import template_root as t; print(t())"],
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == installed / "inferplate/_template"
