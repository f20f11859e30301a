"""What ``python -m service manifest`` does for /predict."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from managed.conftest import DESCRIBED, Describe
from service.scaffold import command, project


def test_predict_is_offered_at_a_terminal_only(
    describe: Describe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    wrote: list[Path] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "y" if len(asked) > 1 else ""

    def write_first_predict(folder: Path, *_: Any, **__: Any) -> list[str]:
        wrote.append(folder)
        return ["wrote it"]

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(project, "find", lambda artifact: tmp_path)
    monkeypatch.setattr(command, "write_first_predict", write_first_predict)
    terminal = io.StringIO()
    for is_terminal, questions, written in ((False, 0, 0), (True, 1, 0), (True, 2, 1)):
        monkeypatch.setattr(terminal, "isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setattr(sys, "stdin", terminal)
        code, text, _ = describe(DESCRIBED)
        assert (code, len(asked), len(wrote)) == (0, questions, written)
        assert ("wrote it" in text) == bool(written)
        assert ("SERVICE_PREDICT_ENDPOINT=false" in text) != bool(written)
    code, text, _ = describe(DESCRIBED, "--json")
    assert (code, json.loads(text)["remarks"], len(asked)) == (0, [], 2)
    code, text, _ = describe(DESCRIBED, "--json", "--write-predict")
    assert (code, json.loads(text)["remarks"], len(asked)) == (0, ["wrote it"], 2)
    (tmp_path / project.PREDICT).parent.mkdir(parents=True)
    (tmp_path / project.PREDICT).write_text("mine", encoding="utf-8")
    describe(DESCRIBED)
    assert len(asked) == 2


@pytest.mark.parametrize("options", [("--write-predict",), ("--columns=a,b",), ("--force",)])
def test_predict_needs_the_artifact_in_the_project(
    describe: Describe, options: tuple[str, ...]
) -> None:
    code, text, folder = describe(DESCRIBED, *options)
    assert (code, "put the artifact into" in text) == (1, True)
    assert not (folder / "manifest.json").exists()
