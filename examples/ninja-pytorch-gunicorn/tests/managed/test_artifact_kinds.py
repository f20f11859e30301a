"""Artifacts of the wrong kind are recognised by their content, and one line says what to do."""

import bz2
import gzip
import lzma
import pickle
import shlex
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest

from service.core.artifact_kinds import check
from service.core.manifest import ArtifactError

PICKLE = b"\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00\x8c\x10%s\x94\x8c\x04Name\x94\x93\x94."
SKLEARN = PICKLE % b"sklearn.pipeline"
SKOPS = "skops.io.dump(joblib.load(sys.argv[1]), sys.argv[2])"
XGBOOST = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{"
ONNX = b"\x08\x0a\x12\x07skl2onnx"
RUNTIMES = {
    *("onnxruntime", "openvino", "pytorch", "scikit-learn", "xgboost", "lightgbm", "transformers"),
    "catboost",
}


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Write a file, or an archive of files, and return why a runtime does not take it."""

    def refusal(name: str, content: bytes | dict[str, bytes], runtime: str = "") -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for member, text in content.items():
                    archive.writestr(member, text)
        try:
            check(path, runtime)
        except ArtifactError as error:
            return str(error)
        return ""

    return refusal


@pytest.mark.parametrize(
    ("content", "runtime", "words"),
    [
        (SKLEARN, "scikit-learn", SKOPS),
        (SKLEARN, "scikit-learn", "loading it runs whatever code is in it; if you trust it"),
        (SKLEARN, "scikit-learn", "with the runtime 'python'"),
        (SKLEARN, "xgboost", "--data runtime=scikit-learn"),
        (gzip.compress(SKLEARN), "scikit-learn", SKOPS),
        (zlib.compress(SKLEARN), "scikit-learn", SKOPS),
        (bz2.compress(SKLEARN), "scikit-learn", SKOPS),
        (lzma.compress(SKLEARN), "scikit-learn", SKOPS),
        (lzma.compress(SKLEARN, lzma.FORMAT_ALONE), "scikit-learn", SKOPS),
        (PICKLE % b"xgboost.sklearn.", "xgboost", "joblib.load(sys.argv[1]).save_model"),
        (PICKLE % b"lightgbm.sklearn", "lightgbm", 'getattr(model, "booster_", model)'),
        (PICKLE % b"catboost.coreCat", "python", ""),
        (PICKLE % b"catboost.coreCat", "xgboost", "--data runtime=catboost"),
        (PICKLE % b"service.my_model", "xgboost", "is a pickle: "),
        ({"a/data.pkl": pickle.dumps(OrderedDict(a=1))}, "pytorch", "weights_only=True"),
        ({"a/data.pkl": pickle.dumps(OrderedDict(a=1))}, "xgboost", "--data runtime=pytorch"),
        ({"a/data.pkl": PICKLE % b"torch.nn.modules"}, "pytorch", "torch.export.save("),
        ({"a/data.pkl": PICKLE % b"torch.nn.modules"}, "onnxruntime", "torch.onnx.export("),
        ({"a/data.pkl": b"", "a/code/a.py": b""}, "pytorch", "is TorchScript: export the module"),
        ({"config.json": b"", "metadata.json": b""}, "onnxruntime", 'format="onnx"'),
        (b"\x89HDF\r\n\x1a\n", "openvino", 'format="onnx"'),
        (b"CBM1\x00", "lightgbm", "is a CatBoost model: a service with the runtime 'catboost'"),
        (ONNX, "xgboost", "is an ONNX model: a service with the runtime 'onnxruntime' reads it"),
        (XGBOOST, "lightgbm", "is an XGBoost model: a service with the runtime 'xgboost'"),
        (b"tree\nversion=v4\n", "xgboost", "is a LightGBM model: a service with"),
        (b'<?xml version="1.0"?>\n<net name="a">', "onnxruntime", "--data runtime=openvino"),
        (b"\x20\x00\x00\x00TFL3", "onnxruntime", "--data runtime=openvino"),
        ({"schema.json": b"{}"}, "lightgbm", "--data runtime=scikit-learn"),
        ({"a/archive_format": b"pt2"}, "openvino", "--data runtime=pytorch"),
        (b'\x0a\x00\x00\x00\x00\x00\x00\x00{"a": null', "openvino", "--data runtime=pytorch"),
    ],
)
def test_what_to_do_with_an_artifact_of_another_kind(
    refusal: Callable[..., str], content: bytes | dict[str, bytes], runtime: str, words: str
) -> None:
    told = refusal("model.bin", content, runtime)
    assert words in told
    assert "\n" not in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("content", "takes"),
    [
        (ONNX, {"onnxruntime", "openvino"}),
        (XGBOOST, {"xgboost"}),
        (b'{"learner":{"attributes":{}', {"xgboost"}),
        (b"tree\nversion=v4\n", {"lightgbm"}),
        (b"CBM1\x00", {"catboost"}),
        ({"schema.json": b"{}"}, {"scikit-learn"}),
        ({"a/models/model.json": b"{}"}, {"pytorch"}),
        (b'\x0a\x00\x00\x00\x00\x00\x00\x00{"a": null', {"pytorch"}),
        (b"anything else", RUNTIMES),
        (b"", RUNTIMES),
        (b"\x1f\x8b broken", RUNTIMES),
        ({"arr_0.npy": b""}, RUNTIMES),
        ({"config.json": b"{}"}, RUNTIMES),
        ({"metadata.json": b"{}"}, RUNTIMES),
        (SKLEARN, set()),
    ],
)
def test_which_runtimes_take_it(
    refusal: Callable[..., str], content: bytes | dict[str, bytes], takes: set[str]
) -> None:
    taken = {runtime for runtime in RUNTIMES if not refusal("model.bin", content, runtime)}
    assert taken == takes
    assert not refusal("model.bin", content, "python")


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check(tmp_path, "transformers")
    with pytest.raises(ArtifactError, match="is a folder of Transformers"):
        check(tmp_path, "xgboost")
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    with pytest.raises(ArtifactError, match="tf2onnx"):
        check(tmp_path, "onnxruntime")


@pytest.mark.parametrize(
    ("start", "title"), [(b"\x08\x01\x12\x02", "SavedModel"), (b"\n", "graph")]
)
def test_files_of_tensorflow(refusal: Callable[..., str], start: bytes, title: str) -> None:
    assert title in refusal("model.pb", start, "onnxruntime")


def test_commands_survive_a_space_in_a_path(refusal: Callable[..., str]) -> None:
    told = refusal("my model.pkl", SKLEARN, "scikit-learn")
    command = shlex.split(told.partition("convert it: ")[2].partition("; or ")[0])
    assert [Path(part).name for part in command[3:]] == ["my model.pkl", "my model.skops"]
    compile(command[2], "the command", "exec")


def test_nothing_of_a_pickle_is_run(refusal: Callable[..., str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return pytest.fail, ("it was run",)

    for content in (pickle.dumps(Trap()), {"a/data.pkl": pickle.dumps(Trap())}):
        assert "a pickle" in refusal("model.pkl", content, "pytorch")
