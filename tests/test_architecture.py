"""What ``docs/architecture.md`` and the decision records name is in the code."""

import ast
import re
from pathlib import Path

import pytest

from inferplate.template.source import template_root

ROOT = template_root()
SERVICE = ROOT / "template/service/src/service"
FRAGMENTS = [ROOT / "template" / name for name in ("fastapi", "runtimes/python", "servers/uvicorn")]
PLACES = [ROOT, ROOT / "docs/decisions", SERVICE, *(each / "src/service" for each in FRAGMENTS)]
PLACES += [ROOT / "template/examples/tabular/src/service", ROOT / "template/fastapi"]
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
DOCUMENTS = [ROOT / "docs/architecture.md", *DECISIONS]
LONGEST_PAGE = 60
PARTS = ["## Context", "## Decision", "## Consequences"]


def code_names(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_files_exist(document: Path) -> None:
    paths = [name for name in code_names(document) if re.fullmatch(r"[\w/.-]+(\.\w+|/)", name)]
    paths = [name for name in paths if "/" in name or name.endswith((".py", ".yml", ".jinja"))]
    assert not [name for name in paths if not any((place / name).exists() for place in PLACES)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_methods_exist(document: Path) -> None:
    defined = set(methods())
    named = {name for name in code_names(document) if re.fullmatch(r"[A-Z]\w+\.\w+", name)}
    assert named <= defined


def methods() -> list[str]:
    """List the methods of the classes of an emitted service, as ``Class.method``."""
    trees = [ast.parse(path.read_bytes()) for path in SERVICE.rglob("*.py")]
    return [
        f"{node.name}.{part.name}"
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_the_layers_are_those_of_the_linter() -> None:
    rules = (ROOT / "tests/importlinter.ini").read_text(encoding="utf-8")
    (block,) = re.findall(r"^layers =\n((?: +.+\n)+)", rules, re.MULTILINE)
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Imports go only downward, in this order: (.+?)\.", text, re.DOTALL)
    assert re.findall(r"`(\w+)`", sentence) == re.findall(r"\w+", block)


def test_the_rooms_are_those_that_are_emitted() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    (drawn,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    named = {line.split()[0].removesuffix("/") for line in drawn.splitlines()[1:]}
    found = {path.name.removesuffix(".jinja") for path in SERVICE.iterdir()}
    assert named == found - {"__init__.py", "__pycache__"}


@pytest.mark.parametrize("record", DECISIONS, ids=lambda path: path.stem)
def test_a_record_is_a_page_in_three_parts_and_listed(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## .+$", text, re.MULTILINE) == PARTS
    assert len(text.splitlines()) <= LONGEST_PAGE
    title = text.partition("\n")[0].removeprefix("# ")
    index = (record.parent / "README.md").read_text(encoding="utf-8")
    number, _, words = title.partition(". ")
    assert f"{number}. [{words}]({record.name})" in index
