"""``python -m service score``: what /predict would answer, for each row of a file."""

import asyncio
import csv
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from managed.conftest import Call, Serve
from managed.importing import Shell
from managed.support import Doubler
from service.core.errors import Refused
from service.core.tensors import Tensors
from service.scoring import command, draft, progress, run, scorer
from service.scoring.errors import Row
from service.scoring.lines import LinesSource

BATCH = 4
REQUEST = 8
TOO_BIG = 77.0
ODD = 55.0
LATE = 33.0

ROWS = [
    b'{"left": 1.5, "right": -2}',
    b'{"left": 2, "right": 1e3}',
    b'{"left": "2", "right": 1}',
    b'{"left": true, "right": 1}',
    b'{"left": 1}',
    b'{"left": 1, "right": 2, "surplus": 3}',
    b'{"left": NaN, "right": 2}',
    b'{"left": 1e999, "right": 2}',
    b'{"left": 1, "left": 2, "right": 2}',
    b'{"left": 1, "right": 2',
    b'{"left": 1, "right": 2} x',
    b"[1, 2]",
    b"null",
    b'"text"',
    b"\xff",
    b"[" * 300 + b"]" * 300,
    b'{"left": 3, "right": 4}',
    b'{"left": %d, "right": 4}' % TOO_BIG,
    b'{"left": 5, "right": 6}',
    b'{"left": %d, "right": 4}' % ODD,
    b'{"left": 7, "right": 8}',
    b'{"left": 9, "right": %d}' % LATE,
    b'{"left": 1e300, "right": 0}',
]


@dataclass
class Refusing(Doubler):
    """A model that refuses some rows."""

    def run(self, batch: Tensors) -> Tensors:
        (x,) = batch.values()
        for index in np.flatnonzero(x[:, 0] == ODD):
            raise Refused("It is odd.", field="left", instance=int(index))
        return super().run(batch)


@pytest.fixture
def scored(
    call: Call,
    folder: Path,
    model: Doubler,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Call the command with a model, in batches of four rows, two in a request."""
    monkeypatch.setattr(scorer, "_BATCHES", REQUEST // BATCH)
    monkeypatch.setenv("SERVICE_MODEL_DIR", str(folder))
    monkeypatch.setenv("SERVICE_MAX_BATCH_SIZE", str(BATCH))
    monkeypatch.setattr(command, "configure_logging", lambda settings: None)
    return lambda *arguments: call("score", *arguments)


@pytest.fixture
def refusing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let predict.py refuse instances, before the model runs and after it."""
    predict = shell.modules["predict"]
    to_tensors, to_predictions = predict.to_tensors, predict.to_predictions

    def refuse_big(instances: Sequence[Any]) -> Tensors:
        if any(each.left == TOO_BIG for each in instances):
            raise Refused("It is too big.", field="left")
        tensors: Tensors = to_tensors(instances)
        return tensors

    def refuse_late(outputs: Tensors) -> Any:
        if (outputs["y"][:, 1] == 2 * LATE).any():
            raise Refused("It is late.")
        return to_predictions(outputs)

    for module in (predict, shell.main):
        monkeypatch.setattr(module, "to_tensors", refuse_big)
        monkeypatch.setattr(module, "to_predictions", refuse_late)


def in_request(error: dict[str, str]) -> dict[str, str]:
    """Return an error of a row as that of the first instance of a request."""
    return own_words({**error, "field": f"instances.0.{error['field']}".removesuffix(".")})


def own_words(error: dict[str, str]) -> dict[str, str]:
    """Leave out a text that frameworks say in their own words: that a row is not an object."""
    says = error["reason"].startswith("Input should be a valid dictionary")
    return {**error, "reason": "not an object"} if says else error


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def refused(output: Path) -> list[Any]:
    return lines(draft.refused_path(output))


def write_rows(path: Path, count: int) -> Path:
    rows = [{"left": n, "right": -n} for n in range(1000, 1000 + count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.usefixtures("refusing")
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_every_row_is_answered_as_predict_answers_it(
    scored: Call, serve: Serve, model: Doubler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def ask() -> list[tuple[int, Any]]:
        async with serve(Refusing(), predict_endpoint=True, max_batch_size=BATCH) as service:
            answers = []
            for row in ROWS:
                answer = await service.client.post(
                    "/predict",
                    content=b'{"instances": [' + row + b"]}",
                    headers={"content-type": "application/json"},
                )
                answers.append((answer.status_code, answer.json()))
            return answers

    model.__class__ = Refusing
    given, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    given.write_bytes(b"\n".join(ROWS))
    code, text = scored(str(given), str(output))
    assert code == command.DONE_WITH_REFUSED, text
    predictions = {line["row"]: line["prediction"] for line in lines(output)}
    reasons = {line["row"]: line for line in refused(output)}
    for number, (status, answer) in enumerate(asyncio.run(ask()), 1):
        if status == 200:
            assert predictions.pop(number) == answer["predictions"][0]
            continue
        reason = reasons.pop(number)
        assert reason["status"] == status, (number, reason, answer)
        if status == 400:
            assert reason["text"] == ROWS[number - 1].decode(errors="replace")
            assert reason["detail"].startswith("The row is not valid JSON: ")
            continue
        assert reason["detail"] == answer["detail"]
        assert [in_request(each) for each in reason["errors"]] == list(
            map(own_words, answer["errors"])
        )
    assert not predictions
    assert not reasons


def test_rows_run_in_full_batches(scored: Call, model: Doubler, tmp_path: Path) -> None:
    given = write_rows(tmp_path / "rows.jsonl", 10)
    given.write_text(given.read_text().replace('"left": 1001', '"left": null'))
    assert scored(str(given), str(tmp_path / "out.jsonl"))[0] == command.DONE_WITH_REFUSED
    assert model.batches[-3:] == [4, 4, 1]


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
def test_formats_say_the_same(scored: Call, tmp_path: Path, end: str) -> None:
    values = [(float(n), n / 4) for n in range(11)]
    given, output = tmp_path / f"rows{end}", tmp_path / f"out{end}"
    write(given, [{"name": f"row {n}", "left": x, "right": y} for n, (x, y) in enumerate(values)])
    code, text = scored(str(given), str(output), "--id", "name", "--overwrite")
    assert code == command.DONE, text
    assert read(output) == [
        {"row": n + 1, "name": f"row {n}", "left": 2 * x, "right": 2 * y}
        for n, (x, y) in enumerate(values)
    ]
    assert not draft.refused_path(output).exists()


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    match path.suffix:
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case _:
            arrow = pytest.importorskip("pyarrow")
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=3)


def read(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".jsonl":
            return [
                {key: value for key, value in line.items() if key != "prediction"}
                | line["prediction"]
                for line in lines(path)
            ]
        case ".csv":
            with path.open(newline="") as file:
                return [
                    {**row, "row": int(row["row"])}
                    | {key: float(row[key]) for key in ("left", "right")}
                    for row in csv.DictReader(file)
                ]
    found: list[dict[str, Any]] = (
        pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    )
    return found


def test_a_row_that_fails_ends_the_run(scored: Call, model: Doubler, tmp_path: Path) -> None:
    given, output = write_rows(tmp_path / "rows.jsonl", 20), tmp_path / "out.jsonl"
    whole = given.read_text()
    given.write_text(whole.replace("1009", f"{model.poison:g}"))
    code, text = scored(str(given), str(output))
    assert code == command.NOT_DONE
    assert "row 10: The model could not process this request. ValueError: a secret" in text
    assert "8 rows are kept" in text
    assert not output.exists()
    given.write_text(whole)
    code, text = scored(str(given), str(output))
    assert (code, "IN differs from that of the unfinished run" in text) == (command.NOT_DONE, True)
    assert scored(str(given), str(output), "--overwrite")[0] == command.DONE
    assert [line["row"] for line in lines(output)] == list(range(1, 21))


@pytest.mark.parametrize(
    ("end", "number"),
    [(".jsonl", signal.SIGINT), (".csv", signal.SIGTERM), (".parquet", signal.SIGTERM)],
)
def test_an_interrupted_run_goes_on(
    scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, number: signal.Signals
) -> None:
    if end == ".parquet":
        pytest.importorskip("pyarrow")
    given = write_rows(tmp_path / "rows.jsonl", 50)
    given.write_text(given.read_text().replace('"left": 1007', '"left": null'))
    whole, output = tmp_path / f"whole{end}", tmp_path / f"out{end}"
    scored(str(given), str(whole))
    written = draft.Draft.add

    def add(self: draft.Draft, *arguments: Any, **named: Any) -> None:
        written(self, *arguments, **named)
        signal.raise_signal(number)

    runs = 0
    with monkeypatch.context() as patch:
        patch.setattr(draft.Draft, "add", add)
        while not output.exists():
            code, text = scored(str(given), str(output))
            runs += 1
            assert (code, "goes on after them" in text) == (command.NOT_DONE, True)
            if runs == 3:
                break
    assert not output.exists()
    code, text = scored(str(given), str(output))
    assert code == command.DONE_WITH_REFUSED, text
    assert output.read_bytes() == whole.read_bytes()
    assert refused(output) == refused(whole)
    assert not output.with_name(f"{output.name}.draft").exists()


def test_what_was_not_brought_to_the_disk_is_written_again(
    scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, output = write_rows(tmp_path / "rows.jsonl", 50), tmp_path / "out.jsonl"
    scored(str(given), str(tmp_path / "whole.jsonl"))
    kept = draft.Draft.keep
    rows: list[int] = []

    def keep(self: draft.Draft) -> None:
        if not rows or len(rows) == 3:
            kept(self)
        rows.append(self.rows)

    with monkeypatch.context() as patch:
        patch.setattr(run, "_KEEP_ROWS", BATCH)
        patch.setattr(draft.Draft, "keep", keep)
        patch.setattr(draft.Draft, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scored(str(given), str(output))
    state = json.loads((tmp_path / "out.jsonl.draft/state.json").read_text())
    assert 0 < state["rows"] < 50
    assert (tmp_path / "out.jsonl.draft/lines").stat().st_size > state["sizes"][0]
    assert scored(str(given), str(output))[0] == command.DONE
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_goes_on_only_as_it_began(
    scored: Call, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    given, output = write_rows(tmp_path / "rows.jsonl", 20), tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(draft.Draft, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scored(str(given), str(output))

    def told(*options: str) -> str:
        code, text = scored(str(given), str(output), *options)
        assert code == command.NOT_DONE
        assert "--overwrite" in text
        return text

    assert "--id or --drop differs" in told("--drop", "other")
    monkeypatch.setenv("SERVICE_MAX_BATCH_SIZE", "8")
    assert "SERVICE_MAX_BATCH_SIZE is 8, the unfinished run has batches of 4" in told()
    monkeypatch.delenv("SERVICE_MAX_BATCH_SIZE")  # then it is what it was, not what is best
    with monkeypatch.context() as patch:
        path = folder / "manifest.json"
        before = path.read_text()
        path.write_text(before.replace('"1"', '"2"'))
        assert "the model differs" in told()
        path.write_text(before)
    assert scored(str(given), str(output))[0] == command.DONE
    assert "exists" in told()
    assert scored(str(given), str(output), "--overwrite")[0] == command.DONE


def test_rows_are_not_held(scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = write_rows(tmp_path / "rows.jsonl", 3000)
    held, most = 0, 0
    rows, add = LinesSource.rows, draft.Draft.add

    def counted(self: LinesSource, skip: int) -> Iterator[Row]:
        nonlocal held, most
        for row in rows(self, skip):
            held += 1
            most = max(most, held)
            yield row

    def written(self: draft.Draft, *arguments: Any, **counts: Any) -> None:
        nonlocal held
        held -= counts["rows"]
        add(self, *arguments, **counts)

    monkeypatch.setattr(LinesSource, "rows", counted)
    monkeypatch.setattr(draft.Draft, "add", written)
    assert scored(str(given), str(tmp_path / "out.jsonl"))[0] == command.DONE
    assert (held, most <= 3 * REQUEST) == (0, True), most


def test_standard_input_is_not_kept(
    scored: Call, monkeypatch: pytest.MonkeyPatch, model: Doubler, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"

    def give(text: str) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
        monkeypatch.setattr(sys, "stdin", stdin)

    give('{"left": 1, "right": 2}\n' * 9)
    assert scored("-", str(output))[0] == command.DONE
    assert len(lines(output)) == 9
    failing = json.dumps({"left": model.poison, "right": 2})
    give('{"left": 1, "right": 2}\n' * 9 + failing)
    code, text = scored("-", str(output), "--overwrite")
    assert (code, "nothing is kept" in text) == (command.NOT_DONE, True), text
    assert list(tmp_path.glob("out.*")) == []


@pytest.mark.parametrize(
    ("given", "output", "options", "words"),
    [
        ("rows.txt", "out.jsonl", (), "must end with .jsonl"),
        ("rows.jsonl", "out.xlsx", (), "must end with .jsonl"),
        ("no.jsonl", "out.jsonl", (), "no.jsonl is not a file"),
        ("rows.jsonl", "nowhere/out.jsonl", (), "does not exist"),
        ("rows.jsonl", "rows.jsonl", ("--overwrite",), "the same file"),
        ("rows.jsonl", "out.jsonl", ("--drop", "left"), "'left', which is a field"),
        ("rows.csv", "out.jsonl", (), "Instance has no field 'id': leave columns out with --drop"),
        ("rows.csv", "out.jsonl", ("--drop", "id"), "no column 'right', which Instance requires"),
        ("rows.csv", "out.jsonl", ("--drop", "id,x"), "IN has no column 'x', only 'id', 'left'"),
        ("empty.csv", "out.jsonl", (), "no header"),
        ("rows.parquet", "out.jsonl", (), "IN is not Parquet"),
    ],
)
def test_what_cannot_be_scored(
    scored: Call, tmp_path: Path, given: str, output: str, options: tuple[str, ...], words: str
) -> None:
    if given.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    write_rows(tmp_path / "rows.jsonl", 1)
    for name in ("rows.csv", "rows.txt", "rows.parquet"):
        (tmp_path / name).write_text("id,left\n1,2\n")
    (tmp_path / "empty.csv").touch()
    code, text = scored(str(tmp_path / given), str(tmp_path / output), *options)
    assert (code, words in text) == (command.NOT_DONE, True), text
    assert text.count("\n") == 1
    assert (tmp_path / "rows.jsonl").stat().st_size
    assert not (tmp_path / output).exists() or output == given


def test_parquet_needs_its_library(
    scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    given = write_rows(tmp_path / "rows.jsonl", 1)
    code, text = scored(str(given), str(tmp_path / "out.parquet"))
    assert (code, "pip install pyarrow" in text) == (command.NOT_DONE, True)


def test_a_service_without_its_predict_py_does_not_score(
    scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERVICE_PREDICT_ENDPOINT", "false")
    given = write_rows(tmp_path / "rows.jsonl", 1)
    code, text = scored(str(given), str(tmp_path / "out.jsonl"))
    assert (code, "SERVICE_PREDICT_ENDPOINT" in text) == (command.NOT_DONE, True)


def test_a_file_that_changes_meanwhile_is_not_scored(
    scored: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, output = write_rows(tmp_path / "rows.jsonl", 8), tmp_path / "out.jsonl"
    add = draft.Draft.add

    def touched(self: draft.Draft, *arguments: Any, **named: Any) -> None:
        os.utime(given, (1, 1))
        add(self, *arguments, **named)

    monkeypatch.setattr(draft.Draft, "add", touched)
    code, text = scored(str(given), str(output))
    assert (code, "changed while it was read" in text) == (command.NOT_DONE, True)
    assert not output.exists()


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the times that progress is going to see."""
    times: list[float] = []
    monkeypatch.setattr(
        f"{progress.__name__}.time", SimpleNamespace(monotonic=lambda: times.pop(0))
    )
    return times


def test_progress_in_a_log_is_a_line_now_and_then(clock: list[float]) -> None:
    clock += [0.0, 9.0, 10.0, 19.0, 20.0]
    log = io.StringIO()
    shown = progress.Progress(1_000, log)
    for rows, refused_rows in ((1_900, 1), (3_000, 2), (3_900, 3)):
        shown.show(rows, refused_rows)
    shown.show(5_000, 4, last=True)
    shown.end_line()
    assert log.getvalue().splitlines() == [
        "3,000 rows, 200 rows/s, 2 refused",
        "5,000 rows, 200 rows/s, 4 refused",
    ]


def test_progress_at_a_terminal_is_one_line(clock: list[float]) -> None:
    clock += [0.0, 0.5, 1.0, 2.0]
    terminal = Terminal()
    shown = progress.Progress(0, terminal)
    for rows in (50, 1_000, 9):
        shown.show(rows, 0)
    shown.end_line()
    shown.end_line()
    *_, first, second = terminal.getvalue().split("\r")
    assert first.rstrip() == "1,000 rows, 1,000 rows/s, 0 refused"
    assert second.rstrip(" \n") == "9 rows, 4 rows/s, 0 refused"
    assert len(first) >= len(second.rstrip("\n")) > len("1,000 rows, 1,000 rows/s, 0 refused")
    assert second.endswith(" \n")


def test_progress_is_shown_while_it_scores(
    scored: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_IN_A_LOG", 0.0)
    given = write_rows(tmp_path / "rows.jsonl", 2 * REQUEST + 1)
    code, text = scored(str(given), str(tmp_path / "out.jsonl"))
    assert code == command.DONE, text
    counts = [line.split()[0] for line in text.splitlines() if "rows/s" in line]
    assert counts == ["8", "16", "17", "17"]
