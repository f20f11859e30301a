"""A smoke run of the benchmark of overload: what it checks, not what it measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "overload.py"


@pytest.mark.slow
def test_what_is_accepted_is_right_and_the_surplus_is_told_when_to_come_back(
    tmp_path: Path,
) -> None:
    written = tmp_path / "results.json"
    options = ["--seconds", "3", "--model", "5 ms", "--json", str(written)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert written.exists(), done.stderr
    (result,) = json.loads(written.read_text())
    assert result["statuses"]["200"] > 0
    assert result["statuses"]["503"] > 0
    assert result["statuses"].keys() <= {"200", "503", "504"}, "504: too slow a machine for others"
    assert result["wrong"] == 0
    assert result["without_retry_after"] == 0
    assert result["overdue"] == 0
