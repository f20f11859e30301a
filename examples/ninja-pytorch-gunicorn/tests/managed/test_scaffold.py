"""A first predict.py and golden.json are written, never over a file that was edited."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from managed.support import Doubler, write_model
from service.core import examples, manifest
from service.core.manifest import ArtifactError, Manifest
from service.core.run import checked
from service.core.tensors import Feature, TensorSpec
from service.scaffold import mlflow, mlflow_columns, project
from service.scaffold.first_predict import write_first_predict
from service.scaffold.names import identifiers, type_name
from service.scaffold.plan import make_plan, named_columns

FILES = (project.PREDICT, project.GOLDEN, project.TESTS)
SEED_TEXT = "a text of the template\n"
SEED_OF_TESTS = "TOLERANCE: Final = 0.02\n"
COLUMNS = (Feature("a b", "FP32"), Feature("c", "FP32", optional=True))
Write = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with the texts of the template."""
    seeds = {name: [_digest(SEED_TEXT)] for name in FILES}
    seeds[project.TESTS] = [_digest(SEED_OF_TESTS)]
    monkeypatch.setattr(project, "_seeds", lambda: seeds)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SEED_TEXT, encoding="utf-8")
    (tmp_path / project.TESTS).write_text(SEED_OF_TESTS, encoding="utf-8")
    write_model(tmp_path / "models", Doubler())
    return tmp_path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def write(folder: Path) -> Write:
    def write(*, force: bool = False, columns: tuple[Feature, ...] = COLUMNS) -> list[str]:
        described = manifest.read(folder / "models")
        return write_first_predict(
            folder,
            described,
            checked(Doubler(), described.output_specs()),
            list(examples.made_up(described.input_specs())),
            columns=columns,
            classes=(),
            batched=True,
            force=force,
        )

    return write


def test_files_of_the_template_are_replaced(write: Write, folder: Path) -> None:
    (said,) = write()
    assert said.startswith(f"wrote {project.PREDICT}, {project.GOLDEN}, and the tolerance")
    text = (folder / project.PREDICT).read_text(encoding="utf-8")
    assert '    a_b: Float32 = Field(description="a b")\n    c: Float32 | None = None\n' in text
    golden = json.loads((folder / project.GOLDEN).read_text(encoding="utf-8"))
    for answer in golden:
        doubled = [2 * (answer["instance"][name] or 0) for name in ("a_b", "c")]
        if answer["instance"]["c"] is not None:
            assert answer["prediction"]["y"] == pytest.approx(doubled)
    assert (folder / project.TESTS).read_text(encoding="utf-8") == "TOLERANCE: Final = 1e-4\n"
    assert not list(folder.rglob("*.new"))


def test_line_ends_of_windows_are_no_edit(write: Write, folder: Path) -> None:
    (folder / project.PREDICT).write_bytes(SEED_TEXT.replace("\n", "\r\n").encode())
    (said,) = write()
    assert ".new" not in said


@pytest.mark.parametrize("edited", [project.PREDICT, project.GOLDEN])
def test_an_edited_file_stays_and_the_new_ones_are_beside(
    write: Write, folder: Path, edited: str
) -> None:
    (folder / edited).write_text("mine\n", encoding="utf-8")
    (said,) = write()
    assert f"{edited} is edited, and stays (--force writes over it)" in said
    assert (folder / edited).read_text(encoding="utf-8") == "mine\n"
    (other,) = {project.PREDICT, project.GOLDEN} - {edited}
    assert (folder / other).read_text(encoding="utf-8") == SEED_TEXT
    assert (folder / project.TESTS).read_text(encoding="utf-8") == SEED_OF_TESTS
    assert "class Instance" in (folder / f"{project.PREDICT}.new").read_text(encoding="utf-8")
    assert json.loads((folder / f"{project.GOLDEN}.new").read_text(encoding="utf-8"))
    write(force=True)
    assert "class Instance" in (folder / project.PREDICT).read_text(encoding="utf-8")


def test_written_twice_it_is_the_same(write: Write, folder: Path) -> None:
    write()
    assert ".new" not in write()[0]
    assert ".new" in write(columns=())[0]


def test_edited_tests_stay(write: Write, folder: Path) -> None:
    (folder / project.TESTS).write_text("mine\n", encoding="utf-8")
    _, said = write()
    assert said.startswith(f"{project.TESTS} is edited, and stays")
    assert (folder / project.TESTS).read_text(encoding="utf-8") == "mine\n"


def test_a_file_that_is_not_there_was_not_edited(write: Write, folder: Path) -> None:
    for name in FILES:
        (folder / name).unlink()
    assert write()[0].startswith("wrote")
    assert not (folder / project.TESTS).exists()


def test_the_artifact_must_be_where_tests_and_image_take_it_from(tmp_path: Path) -> None:
    here = Path(__file__).parents[2]
    assert project.find(here / "models/own.onnx") == here
    with pytest.raises(ArtifactError, match=r"put the artifact into .*models first"):
        project.find(tmp_path / "own.onnx")


def test_the_emitted_files_are_known_unless_edited() -> None:
    known = json.loads(Path(project.__file__).with_name("seeds.json").read_bytes())
    assert set(known) == set(FILES)
    assert all(len(digest) == 64 for digests in known.values() for digest in digests)


def described(*inputs: TensorSpec) -> Manifest:
    return manifest.describe(
        Path(__file__),
        name="own",
        version="1",
        runtime="test",
        inputs=inputs,
        outputs=(TensorSpec("y", "FP32", (-1,)),),
    )


def test_instances_that_are_too_large_for_json_are_refused() -> None:
    image = described(TensorSpec("image", "FP32", (-1, 3, 224, 224)))
    with pytest.raises(ArtifactError, match="150528 values, too many for JSON"):
        make_plan(image, (), (), batched=True)


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a"], "1 names of columns do not fit the inputs: x"), (["a", "a"], "the same name")],
)
def test_names_that_do_not_fit_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        named_columns(described(TensorSpec("x", "FP32", (-1, 2))), (), names)


def test_names_replace_those_of_the_artifact() -> None:
    given = named_columns(described(TensorSpec("x", "FP32", (-1, 2))), COLUMNS, ["length", "d"])
    assert given == (Feature("length", "FP32"), Feature("d", "FP32", optional=True))


def test_names_become_identifiers_that_differ() -> None:
    given = ["a b", "a-b", "class", "model_id", "json", "1st", "", "HP", "_x", "a_b_2"]
    found = identifiers(given)
    assert found[:7] == ["a_b", "a_b_2", "class_", "the_model_id", "json_", "field_1st", "field"]
    assert all(name.isidentifier() for name in found)
    assert len(set(found)) == len(given)
    assert type_name("a_b", {"AB"}) == "AB2"


MLMODEL = """\
artifact_path: model
flavors:
  xgboost:
    code: null
    data: model.ubj
    model_class: xgboost.sklearn.XGBClassifier
signature:
  inputs: '[{"type": "double", "name": "it''s the
    length", "required": true}, {"type": "string", "name": "city", "required": false},
    {"type": "long", "name": "n", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
utc_time_created: '2026-11-27 04:00:00.000000'
"""


def test_columns_of_an_mlflow_model(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL, encoding="utf-8")
    with pytest.raises(ArtifactError, match="names no artifact in its folder"):
        mlflow.artifact_in(tmp_path)
    (tmp_path / "model.ubj").write_bytes(b"")
    assert mlflow.artifact_in(tmp_path) == tmp_path / "model.ubj"
    assert mlflow_columns.read(tmp_path / "model.ubj") == (
        Feature("it's the length", "FP64"),
        Feature("city", "BYTES", optional=True),
        Feature("n", "INT64"),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flavors: {}\n", ()),
        (MLMODEL.replace('"long"', '"tensor"'), 2),
        (MLMODEL.replace('"long"', '"datetime"'), None),
        (MLMODEL.replace("required", "nullable", 1).replace('"name": "n"', '"x": 1'), None),
    ],
)
def test_other_signatures_of_mlflow(tmp_path: Path, text: str, found: Any) -> None:
    (tmp_path / "MLmodel").write_text(text, encoding="utf-8")
    if found is None:
        with pytest.raises(ArtifactError, match="the signature cannot be read"):
            mlflow_columns.read(tmp_path / "model.ubj")
    else:
        assert len(mlflow_columns.read(tmp_path / "model.ubj")) == (found or 0)


def test_a_folder_without_mlflow_is_the_artifact(tmp_path: Path) -> None:
    assert mlflow.artifact_in(tmp_path) == tmp_path
    assert mlflow_columns.read(tmp_path / "model.ubj") == ()
