"""``python -m service score`` as a process: killed, with Parquet, and on each framework."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import pyarrow
import pyarrow.parquet
import pytest

from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools.client import alike, post_json
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

FRAMEWORKS: Final = ("fastapi", "litestar", "ninja")
COLUMNS: Final = ("sepal_length", "sepal_width", "petal_length", "petal_width")
COUNT: Final = 6000
KILLED: Final = """
import os, runpy, signal, sys
from service.scoring import draft, run
run._KEEP_ROWS = 1000
add = draft.Draft.add
def killed(self, *arguments, **counts):
    add(self, *arguments, **counts)
    if self.rows > {rows}:
        for file in self._open_files():
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
draft.Draft.add = killed
sys.argv[0] = "service"
runpy.run_module("service", run_name="__main__")
"""
"""Runs the command until it has written more rows, not all of which can be gone on after."""


def project(framework: str, bench: Workbench) -> Path:
    variant = Variant(framework, "onnxruntime", "uvicorn", "tabular")
    bench.place_artifact(variant)
    return bench.project(variant)


def score(
    folder: Path, bench: Workbench, *arguments: object, killed_after: int = 0
) -> tuple[int, str]:
    """Run the command in a project; return its exit code and what it wrote on standard error."""
    start = ["-c", KILLED.format(rows=killed_after)] if killed_after else ["-m", "service"]
    done = subprocess.run(
        [bench.python, *start, "score", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "src", "SERVICE_MAX_BATCH_SIZE": "64"},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def flowers(count: int = COUNT) -> list[dict[str, float]]:
    rows = [
        {
            name: (n * factor % 79 + 1) / 10
            for name, factor in zip(COLUMNS, (3, 5, 7, 11), strict=True)
        }
        for n in range(count)
    ]
    for row in rows[17::97]:
        row["petal_width"] = 31  # which is refused
    return rows


def write_csv(path: Path, rows: list[dict[str, float]]) -> Path:
    lines = [",".join(COLUMNS), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines))
    return path


def write_parquet(path: Path, rows: list[dict[str, float]]) -> Path:
    keyed = [
        {"key": n, **{name: float(row[name]) for name in COLUMNS}} for n, row in enumerate(rows)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(keyed), path, row_group_size=1500)
    return path


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_a_killed_run_ends_as_one_that_was_not(bench: Workbench, tmp_path: Path, end: str) -> None:
    folder = project("fastapi", bench)
    options: list[str] = []
    if end == "parquet":
        given = write_parquet(tmp_path / "flowers.parquet", flowers())
        options = ["--id", "key"]
    else:
        given = write_csv(tmp_path / "flowers.csv", flowers())
    whole, output = tmp_path / f"whole.{end}", tmp_path / f"out.{end}"
    code, text = score(folder, bench, given, whole, *options)
    assert code == 3, text
    for rows in (1500, 4500):
        code, text = score(folder, bench, given, output, *options, killed_after=rows)
        assert code == -signal.SIGKILL, text
        state = json.loads((tmp_path / f"out.{end}.draft/state.json").read_text())
        assert 0 < state["rows"] < rows
        assert not output.exists()
    code, text = score(folder, bench, given, output, *options)
    assert code == 3, text
    for name in ("{}", "{}.refused.jsonl"):
        written = (tmp_path / name.format(output.name)).read_bytes()
        assert written == (tmp_path / name.format(whole.name)).read_bytes()
    refused = len(flowers()[17::97])
    assert (tmp_path / f"{output.name}.refused.jsonl").read_text().count("\n") == refused
    if end == "parquet":
        table = pyarrow.parquet.read_table(output)
        assert table.num_rows == COUNT - refused
        assert table.schema.names == ["row", "key", "label", "probabilities"]
        assert table["key"].type == pyarrow.int64()
        keys = [row - 1 for row in table["row"].to_pylist()]
        assert table["key"].to_pylist() == keys


def test_the_frameworks_write_the_same_and_what_they_answer(
    bench: Workbench, tmp_path: Path
) -> None:
    rows = flowers(300)
    given = write_csv(tmp_path / "flowers.csv", rows)
    written = set()
    for framework in FRAMEWORKS:
        output = tmp_path / f"{framework}.jsonl"
        code, text = score(project(framework, bench), bench, given, output)
        assert code == 3, text
        written.add(
            output.read_bytes() + output.with_name(f"{output.name}.refused.jsonl").read_bytes()
        )
    assert len(written) == 1
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    valid = [rows[line["row"] - 1] for line in lines]
    with Service(project("ninja", bench), bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        answer = post_json(service.port, "/predict", {"instances": valid}).json()
    assert len(answer["predictions"]) == len(lines)
    for line, prediction in zip(lines, answer["predictions"], strict=True):
        assert alike(line["prediction"], prediction, 1e-5)


def test_a_service_without_predict_has_no_such_command(bench: Workbench, tmp_path: Path) -> None:
    folder = bench.project(Variant("fastapi", "onnxruntime", "uvicorn", WITHOUT_HANDLER))
    code, text = score(folder, bench, "rows.jsonl", tmp_path / "out.jsonl")
    assert (code, "invalid choice: 'score'" in text) == (2, True), text
    assert not (folder / "src/service/scoring").exists()
