"""How cells become the fields of an instance, and predictions become columns."""

import datetime
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from service.core.uploads import Upload
from service.ops.settings import Settings
from service.scoring.columns import output_columns
from service.scoring.errors import CannotScore, Refusal, Row
from service.scoring.fields import Fields
from service.scoring.lines import LinesSource
from service.scoring.parquet import ParquetSource, write
from service.scoring.table import TableSource
from service.scoring.wanted import Wanted


class Point(BaseModel):
    x: float
    note: str | None = None


class Everything(BaseModel):
    text: str = "none"
    word: str | None = None
    number: float = 0.5
    count: int | None = None
    flag: bool = False
    many: list[float] = []
    point: Point | None = None
    kind: Literal["a", "b"] = "a"
    level: Literal[1, 2] = 1
    either: float | bool = 0
    day: datetime.date | None = None
    renamed: Annotated[str, Field(alias="other name")] = ""


class Small(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: float


def wanted(
    instance: type[BaseModel] = Everything, id: str | None = None, drop: Sequence[str] = ()
) -> Wanted:
    return Wanted(Fields(instance), id, drop)


def table(text: str, instance: type[BaseModel] = Everything, **options: Any) -> list[Row]:
    source = TableSource(io.StringIO(text, newline=""), wanted(instance, **options), Settings())
    return list(source.rows(0))


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("text", "5", "5"),
        ("text", " a ", " a "),
        ("text", "", ""),
        ("word", "", None),
        ("word", "null", "null"),
        ("number", "5", 5),
        ("number", "+5", 5),
        ("number", " -2.5e3 ", -2500.0),
        ("number", ".5", 0.5),
        ("number", "1_0", "1_0"),
        ("number", "nan", "nan"),
        ("number", "1e999", "1e999"),
        ("number", "0x10", "0x10"),
        ("number", "five", "five"),
        ("number", "9" * 5000, "9" * 5000),
        ("count", "", None),
        ("count", "7", 7),
        ("count", "7.0", 7.0),
        ("flag", "TRUE", True),
        ("flag", "False", False),
        ("flag", "yes", "yes"),
        ("many", "[1, 2.5]", [1, 2.5]),
        ("many", "[1, NaN]", "[1, NaN]"),
        ("many", "[1", "[1"),
        ("many", "[" * 100_000, "[" * 100_000),
        ("point", '{"x": 1}', {"x": 1}),
        ("point", "", None),
        ("kind", "a", "a"),
        ("level", "2", 2),
        ("either", "true", True),
        ("either", "2", 2),
        ("day", "2026-01-02", "2026-01-02"),
        ("other name", "1", "1"),
    ],
)
def test_the_schema_says_what_a_cell_is(name: str, cell: str, value: object) -> None:
    quoted = cell.replace('"', '""')
    (row,) = table(f'{name}\n"{quoted}"\n')
    assert (row.number, row.refusal) == (1, None)
    assert row.instance == {name: value}
    assert type(row.instance[name]) is type(value)


def test_an_empty_cell_of_a_number_is_no_field() -> None:
    (row,) = table("text,number\nx,\n")
    assert row.instance == {"text": "x"}


def test_cells_that_could_mean_two_things_are_refused() -> None:
    class Ambiguous(BaseModel):
        value: int | str

    class Anything(BaseModel):
        value: Any

    for instance in (Ambiguous, Anything):
        with pytest.raises(CannotScore, match="'value' may hold texts and other values"):
            table("value\n1\n", instance)


def test_rows_of_csv_are_numbered_and_cut_by_the_format() -> None:
    rows = table('text,number\n"a\nb",1\n\nc\n,2\n')
    assert [(row.number, row.instance) for row in rows] == [
        (1, {"text": "a\nb", "number": 1}),
        (2, None),
        (3, {"text": "", "number": 2}),
    ]
    assert rows[1].refusal == Refusal(422, "The row has 1 cells, the header has 2.")
    assert rows[1].text == "c"
    with pytest.raises(CannotScore, match="line 2 of IN is not CSV"):
        table('text\n"a"b\n')


def test_csv_that_is_not_utf_8_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text\n\xff\n")
    with path.open(encoding="utf-8-sig", newline="") as file, pytest.raises(CannotScore) as told:
        list(TableSource(file, wanted(), Settings()).rows(0))
    assert "IN is not UTF-8" in str(told.value)


def test_ids_are_not_given_to_the_model() -> None:
    (row,) = table("key,number,y\n007,1,2\n", Small, id="key", drop=["y"])
    assert (row.id, row.instance) == ("007", {"number": 1})
    (row,) = table("number\n1\n", Small, id="number")
    assert (row.id, row.instance) == ("1", {"number": 1})
    with pytest.raises(CannotScore, match="more than once"):
        table("number,number\n1,2\n", Small)
    with pytest.raises(CannotScore, match="use JSON lines"):
        table("number\n1\n", RootModel[list[float]])


def lines(content: bytes, settings: Settings | None = None, **options: Any) -> list[Row]:
    source = LinesSource(io.BytesIO(content), wanted(Small, **options), settings or Settings())
    return list(source.rows(0))


def test_ids_of_json_lines() -> None:
    rows = lines(b'{"key": 7, "number": 1, "y": 0}\n{"number": 1}\n', id="key", drop=["y"])
    assert (rows[0].id, rows[0].instance) == (7, {"number": 1})
    assert rows[1].refusal is not None
    assert "'key', its id" in rows[1].refusal.detail


def test_lines_are_counted_and_limited() -> None:
    rows = lines(b'\xef\xbb\xbf{"number": 1}\r\n\n  \n{"number": 2}')
    assert [(row.number, row.instance["number"]) for row in rows] == [(1, 1), (2, 2)]
    content = b'{"number": 1}\n' + b" " * 50 + b'{"number": 2}\n{"number": 3}\n'
    first, second, third = lines(content, Settings(max_json_bytes=20))
    assert (first.refusal, third.refusal) == (None, None)
    assert third.number == 3
    assert second.refusal is not None
    assert (second.refusal.status, "SERVICE_MAX_JSON_BYTES" in second.refusal.detail) == (413, True)
    (row,) = lines(b'{"number": [1, 2, 3, 4]}', Settings(max_predict_values=5))
    assert row.refusal is not None
    assert "SERVICE_MAX_PREDICT_VALUES" in row.refusal.detail
    (row,) = lines(b'{"number": [1, 2, 3, 4]}', Settings(max_predict_values=6))
    assert row.refusal is None


class Typed(BaseModel):
    number: float | None = None
    price: float = 0
    day: datetime.date | None = None
    moment: datetime.datetime | None = None
    file: Upload | None = None
    many: list[float] | None = None
    point: Point | None = None
    named: dict[str, float] | None = None
    plain: str = ""


def parquet(path: Path, rows: list[dict[str, Any]], schema: Any = None) -> Path:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        arrow.Table.from_pylist(rows, schema), path, row_group_size=2
    )
    return path


def read(path: Path, instance: type[BaseModel] = Typed, skip: int = 0, **options: Any) -> list[Row]:
    with path.open("rb") as file:
        return list(ParquetSource(file, wanted(instance, **options)).rows(skip))


def test_types_of_parquet_become_those_of_json(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    row = {
        "number": 1.5,
        "price": Decimal("2.50"),
        "day": moment.date(),
        "moment": moment,
        "file": b"\x00\xff",
        "many": [1.0, 2.0],
        "point": {"x": 1.0, "note": None},
    }
    path = parquet(tmp_path / "rows.parquet", [row])
    (found,) = read(path)
    assert found.instance == {
        **row,
        "price": 2.5,
        "day": "2026-01-02",
        "moment": "2026-01-02T03:04:05.000006+00:00",
        "file": "AP8=",
    }
    Typed.model_validate_json(json.dumps(found.instance))
    kind = arrow.map_(arrow.string(), arrow.float64())
    named = parquet(
        tmp_path / "map.parquet", [{"named": [("a", 1.0)]}], arrow.schema([("named", kind)])
    )
    assert read(named)[0].instance == {"named": {"a": 1.0}}


def test_what_json_does_not_have_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    path = parquet(
        tmp_path / "rows.parquet",
        [{"number": float("nan"), "many": [1.0, float("inf")]}, {"number": None, "many": None}],
    )
    wrong, empty = read(path)
    assert wrong.refusal is not None
    assert [each["field"] for each in wrong.refusal.errors] == ["number", "many"]
    json.dumps(wrong.instance, allow_nan=False)
    assert (empty.refusal, empty.instance) == (None, {"number": None, "many": None})
    assert (
        read(parquet(tmp_path / "null.parquet", [{"plain": None}, {"plain": "a"}]))[0].instance
        == {}
    )
    for value, kind in ((b"a", None), (datetime.timedelta(1), arrow.duration("s"))):
        schema = arrow.schema([("plain", kind)]) if kind else None
        with pytest.raises(CannotScore, match="the column 'plain' is"):
            read(parquet(tmp_path / "no.parquet", [{"plain": value}], schema))


@pytest.mark.parametrize("skip", range(6))
def test_parquet_goes_on_anywhere(tmp_path: Path, skip: int) -> None:
    path = parquet(tmp_path / "rows.parquet", [{"number": n, "key": n} for n in range(5)])
    rows = read(path, skip=skip, id="key")
    assert [(row.number, row.id) for row in rows] == [(n + 1, n) for n in range(skip, 5)]


class Answer(BaseModel):
    label: str
    score: float | None
    rank: Annotated[int, Field(serialization_alias="place")]
    sure: bool
    vector: list[float]
    parts: dict[str, float]


def test_predictions_become_columns(tmp_path: Path) -> None:
    columns = output_columns(Answer, "key", integer_ids=False)
    assert [(each.name, each.kind, each.many) for each in columns] == [
        ("row", "integer", False),
        ("key", "string", False),
        ("label", "string", False),
        ("score", "number", False),
        ("place", "integer", False),
        ("sure", "boolean", False),
        ("vector", "number", True),
        ("parts", "json", False),
    ]
    pyarrow = pytest.importorskip("pyarrow.parquet")
    prediction = {
        "label": "é",
        "score": None,
        "place": 1,
        "sure": True,
        "vector": [1.5, 2],
        "parts": {"ü": 1},
    }
    line = {"row": 1, "key": 5, "prediction": prediction}
    write(io.BytesIO(json.dumps(line).encode()), tmp_path / "out.parquet", columns)
    assert pyarrow.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"row": 1, "key": "5", **prediction, "parts": '{"ü":1}'}
    ]
    line["prediction"] = {**prediction, "place": 2**64}
    with pytest.raises(CannotScore, match="rows 1 to 1: a prediction does not fit its column"):
        write(io.BytesIO(json.dumps(line).encode()), tmp_path / "out.parquet", columns)


def test_predictions_that_cannot_be_columns() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

        label: str

    for prediction in (RootModel[list[float]], Open):
        with pytest.raises(CannotScore, match="write JSON lines"):
            output_columns(prediction, None, integer_ids=False)
    for name in ("row", "label"):
        with pytest.raises(CannotScore, match=f"would be '{name}'"):
            output_columns(Answer, name, integer_ids=False)
