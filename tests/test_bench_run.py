"""The benchmark, really run: short, with one of each kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_services_and_peers_are_measured_side_by_side(tmp_path: Path) -> None:
    selection = ["--framework", "fastapi", "--peer", "naive", "--wire", "json", "--wire", "typed"]
    loads = ["--connections", "4", "--open-loop", "100", "--rounds", "1", "--seconds", "1"]
    output = tmp_path / "results"
    command = [sys.executable, "-m", "inferplate", "bench", *selection, *loads]
    command += ["--python", os.path.relpath(sys.executable, tmp_path), "--output", str(output)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tabular, json, 4 connections" in done.stdout

    document = json.loads((output / "results.json").read_bytes())
    assert document["failures"] == []
    measured = {
        (entry["contestant"], entry["wire"], *entry["load"]): entry["samples"]
        for entry in document["measurements"]
    }
    assert measured.keys() == {
        ("fastapi", "json", "connections"),
        ("fastapi", "json", "rate"),
        ("fastapi", "typed", "connections"),
        ("fastapi", "typed", "rate"),
        ("naive FastAPI", "json", "connections"),
        ("naive FastAPI", "json", "rate"),
        ("naive FastAPI, async", "json", "connections"),
        ("naive FastAPI, async", "json", "rate"),
    }
    for samples in measured.values():
        (sample,) = samples
        assert sample["requests"] > 0
        assert sample["cpu_us"] > 0
        assert 0 < sample["p50_ms"] <= sample["p99_ms"] <= sample["max_ms"]
        assert sample["bad"] == 0
    footprints = {entry["contestant"] for entry in document["footprints"]}
    assert footprints == {"fastapi", "naive FastAPI", "naive FastAPI, async"}
    assert document["versions"]["fastapi"]["fastapi"]
    plots = {path.name for path in output.glob("*.svg")}
    assert "tabular-json-4c.svg" in plots
    report = (output / "README.md").read_text(encoding="utf-8")
    assert all(f"]({plot})" in report for plot in plots)

    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert again.returncode == 1
    assert "has the results of another run" in again.stderr
