"""What a render is, whoever makes it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import copier
import pytest
from conftest import COVERING_VARIANTS

from inferplate.errors import InferplateError
from inferplate.template.render import render
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.verify.hygiene import problems, tree

ANSWERS_FILE = ".copier-answers.yml"


@pytest.mark.parametrize("variant_", COVERING_VARIANTS, ids=str)
def test_plain_copier_renders_the_same(variant_: Variant, template: Path, tmp_path: Path) -> None:
    copier.run_copy(
        str(template),
        tmp_path / "plain" / "service",
        data=variant_.answers(),
        defaults=True,
        quiet=True,
        settings=copier.Settings(),
    )
    render(template, tmp_path / "ours" / "service", variant_.answers())
    assert tree(tmp_path / "plain") == tree(tmp_path / "ours")


def test_the_git_checkout_renders_the_same(
    copie: Any, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER_SETTINGS_PATH", os.devnull)
    result = copie.copy(template_dir=template_root())
    assert result.exception is None
    rendered = tree(render(template, tmp_path / "plain", {}))
    from_git = tree(result.project_dir)
    assert result.answers["framework"] == "fastapi"
    assert from_git.pop(ANSWERS_FILE) != rendered.pop(ANSWERS_FILE)
    assert from_git == rendered


def test_the_copier_program_needs_no_trust(template: Path, tmp_path: Path) -> None:
    destination = tmp_path / "service"
    subprocess.run(
        [sys.executable, "-m", "copier", "copy", "--defaults", str(template), str(destination)],
        check=True,
        capture_output=True,
        env={**os.environ, "COPIER_SETTINGS_PATH": os.devnull},
    )
    assert (destination / "pyproject.toml").exists()


def test_an_unknown_choice_is_refused_before_anything_is_written(
    template: Path, tmp_path: Path
) -> None:
    with pytest.raises(InferplateError, match="'framework': 'flask' is not in") as caught:
        render(template, tmp_path / "refused", {"framework": "flask"})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "refused").exists()


def test_a_template_for_a_newer_copier_says_what_to_upgrade(tmp_path: Path) -> None:
    (tmp_path / "copier.yml").write_text('_min_copier_version: "99.0.0"\n', encoding="utf-8")
    with pytest.raises(InferplateError, match="needs a newer Copier: upgrade inferplate"):
        render(tmp_path, tmp_path / "service", {})


def test_what_should_not_be_emitted_is_found(tmp_path: Path) -> None:
    files = {
        "jinja.md": b"{{ project_name }}\n",
        "block.toml": b"{% if x %}\n",
        "workflow.yml": b"${{ matrix.python }}\n",
        "empty.py": b"\n",
        "dos.py": b"x = 1\r\n",
        "open.py": b"x = 1",
        "latin.txt": b"\xe9\n",
        "con.txt": b"a\n",
        "a:b.txt": b"a\n",
        "Case.txt": b"a\n",
        "case.txt": b"a\n",
        "left.py.jinja": b"a\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("case.txt")
    found = "\n".join(problems(tmp_path))
    harmless = {"workflow.yml"}
    assert {name for name in (*files, "link") if name in found} == {*files, "link"} - harmless
