"""``make demo``: from nothing to a prediction, and what to do next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_ends_with_a_prediction(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inferplate_tools.demo", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    answer = done.stdout.partition("/predict --json")[2].partition("\n")[2]
    prediction, _ = json.JSONDecoder().raw_decode(answer)
    assert prediction["predictions"][0]["label"] == "setosa"
    assert "run python -m service" in answer
    assert not (tmp_path / "demo/service.log").exists()


def test_the_demo_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/mine.txt").write_text("mine", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "inferplate_tools.demo", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "demo exists and is not an emitted project" in done.stderr
    assert (tmp_path / "demo/mine.txt").exists()
