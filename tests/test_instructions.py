"""The instructions that a request costs are those that are written, but for 3 %."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from inferplate.template.source import template_root
from inferplate_tools.workbench import Workbench

SCRIPT = template_root() / "benchmarks" / "instructions.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instructions", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


instructions: Any = load()
PATHS = list(instructions.requests())


@pytest.mark.slow
@pytest.mark.parametrize("framework", instructions.FRAMEWORKS)
def test_a_request_costs_as_many_instructions_as_before(framework: str, tmp_path: Path) -> None:
    if reason := instructions.obstacle():
        pytest.skip(reason)
    bench = Workbench(tmp_path, sys.executable)
    found = instructions.of_service(instructions.emitted(framework, bench))
    assert list(found) == PATHS
    assert instructions.differences(framework, found) == [], (
        "if it is meant: benchmarks/instructions.py --write"
    )


def test_every_framework_and_path_is_written() -> None:
    written = instructions.record()["instructions"]
    assert written.keys() == {"bare", *instructions.FRAMEWORKS}
    for framework in instructions.FRAMEWORKS:
        assert list(written[framework]) == PATHS
    assert set(written["bare"]) <= set(PATHS)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a record of one path in the place of the written one."""
    path = tmp_path / "instructions.json"
    document = {"versions": {"python": "3.11.0"}, "instructions": {"fastapi": {PATHS[0]: 1_000}}}
    path.write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(instructions, "RECORD", path)
    return path


@pytest.mark.parametrize(("count", "is_told"), [(1_029, False), (971, False), (1_050, True)])
def test_more_than_three_per_cent_is_told(count: int, is_told: bool, record: Path) -> None:
    assert bool(instructions.differences("fastapi", {PATHS[0]: count})) == is_told


def test_less_is_told_too_so_that_the_record_follows(record: Path) -> None:
    assert instructions.differences("fastapi", {PATHS[0]: 900}) == [
        f"fastapi, {PATHS[0]}: 900 instructions, written 1,000"
    ]


def test_what_is_not_written_is_told(record: Path) -> None:
    assert instructions.differences("fastapi", {"another path": 1})
    assert instructions.differences("ninja", {PATHS[0]: 1})


def test_counts_of_other_versions_are_not_compared(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(instructions, "versions", lambda: {"python": "3.12.0"})
    assert instructions.obstacle() == "the written counts are of other versions: python"
    monkeypatch.setattr(instructions, "versions", lambda: {"python": "3.11.0"})
    assert instructions.obstacle() == ""
    monkeypatch.setattr(instructions.shutil, "which", lambda tool: None)
    assert instructions.obstacle() == "valgrind is not installed"
