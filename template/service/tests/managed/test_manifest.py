"""The manifest, checked against the files and the tensors of an artifact."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.core import manifest
from service.core.manifest import ArtifactError, check_signature
from service.core.tensors import Signature, TensorSpec

X, Y = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "INT64", (-1,))
P, Q = TensorSpec("p", "FP32", (-1, 3)), TensorSpec("q", "FP32", (-1,))


def verify(folder: Path) -> Path:
    return manifest.verify(manifest.read(folder), folder, "test")


def assert_refused(folder: Path, words: str) -> None:
    with pytest.raises(ArtifactError) as refusal:
        verify(folder)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_artifact_that_is_as_described(folder: Path) -> None:
    assert verify(folder) == folder / "doubler.bin"


def test_manifest_must_be_there(tmp_path: Path) -> None:
    assert_refused(tmp_path, "train.py")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("doubler.bin", b"thrice", "altered"),
        ("doubler.bin", None, "missing"),
        (
            "doubler.bin",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n",
            "'git lfs pull'",
        ),
        ("manifest.json", '{"name": "é"}'.encode("utf-16"), "is in UTF-16"),
        ("manifest.json", b"version https://git-lfs.github.com/spec/v1\n", "'git lfs pull'"),
        ("manifest.json", b"", "the document"),
    ],
)
def test_other_files_are_refused(
    folder: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert_refused(folder, words)


@pytest.mark.parametrize("name", ["manifest.json", "doubler.bin"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in its file system")
def test_pipes_are_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert_refused(folder, f"{name} is not a file")


@pytest.mark.parametrize("name", ["manifest.json", "doubler.bin"])
def test_files_that_cannot_be_read_are_not_missing(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_as_before = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:  # root may read everything
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return open_as_before(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(folder, f"{name} cannot be read: Permission denied")


def test_manifest_as_windows_saves_it(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert verify(folder) == folder / "doubler.bin"


def entry(key: str, value: str, tag: bytes = b"\x6a") -> bytes:
    """Encode an entry of a map in protobuf, as it is in an ONNX model."""

    def sized(content: bytes) -> bytes:
        size = len(content)
        return (bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])) + content

    return tag + sized(b"\x0a" + sized(key.encode()) + b"\x12" + sized(value.encode()))


LONG = "/".join(["a" * 60] * 4)


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """Write a model with external data in several files, and its manifest."""
    model = tmp_path / "model.onnx"
    metadata = entry("location", "Bonn", b"\x72") + entry("location", LONG[:-1], b"\x72")
    offset = entry("offset", "4096")
    locations = [entry("location", name) for name in ("w.bin", "parts/w", "w.bin", "é", LONG)]
    model.write_bytes(metadata + offset.join([b"weights", *locations, b"\x6a\x0a\x08location\x12"]))
    for name in ("w.bin", "parts/w", "é", LONG):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    write(model)
    return tmp_path


def write(artifact: Path) -> list[str]:
    """Write the manifest of an artifact, and return the files that it lists."""
    described = manifest.describe(
        artifact, name="model", version="1", runtime="test", inputs=(X,), outputs=(P,)
    )
    described.write(artifact.parent)
    return sorted(described.sha256)


def test_external_data_of_onnx_is_in_the_manifest(onnx: Path) -> None:
    assert write(onnx / "model.onnx") == sorted(["model.onnx", "w.bin", "parts/w", "é", LONG])
    assert verify(onnx) == onnx / "model.onnx"


@pytest.mark.parametrize("name", ["w.bin", "parts/w", "é", LONG])
def test_external_data_that_is_not_as_described_is_refused(onnx: Path, name: str) -> None:
    (onnx / name).write_bytes(b"WEIGHTS")
    assert_refused(onnx, f"{name} was altered")
    (onnx / name).unlink()
    assert_refused(onnx, f"{name} is missing")
    (onnx / name).write_bytes(b"weights")
    path = onnx / "manifest.json"
    document = json.loads(path.read_text())
    del document["sha256"][name]
    path.write_text(json.dumps(document))
    assert_refused(onnx, f"{name} is not in the manifest")


def test_external_data_that_is_missing_is_not_described(onnx: Path) -> None:
    (onnx / "w.bin").unlink()
    with pytest.raises(ArtifactError, match=r"w\.bin is missing: model\.onnx keeps weights in it"):
        write(onnx / "model.onnx")


@pytest.mark.parametrize("name", ["../w.bin", "/w.bin", "parts/../w.bin", ""])
def test_external_data_outside_the_folder_is_refused(onnx: Path, name: str) -> None:
    model = onnx / "model.onnx"
    model.write_bytes(model.read_bytes() + entry("location", name))
    assert_refused(onnx, f"'{name}', which is outside")


def test_files_of_a_folder_are_found_behind_links(tmp_path: Path) -> None:
    """The folder is as Kubernetes mounts a ConfigMap, with an item in a folder of its own."""
    mounted = tmp_path / "mounted"
    version = mounted / "..2026_11_27"
    (version / "parts").mkdir(parents=True)
    for name in ("config.json", "parts/w"):
        (version / name).write_bytes(b"weights")
    (mounted / "..data").symlink_to(version.name)
    (mounted / "config.json").symlink_to("..data/config.json")
    (mounted / "parts").symlink_to("..data/parts")
    (version / "parts/loop").symlink_to("..")
    assert write(mounted) == [
        "mounted/config.json",
        "mounted/parts/loop/config.json",
        "mounted/parts/w",
    ]
    version = version.rename(mounted / "..2026_11_28")
    (mounted / "..data").unlink()
    (mounted / "..data").symlink_to(version.name)
    assert verify(tmp_path) == mounted
    (version / "parts/w").write_bytes(b"WEIGHTS")
    assert_refused(tmp_path, "was altered")


def test_weights_of_openvino_are_found_beside_the_model(tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin", "other.bin"):
        (tmp_path / name).write_bytes(b"weights")
    assert write(tmp_path / "model.xml") == ["model.bin", "model.xml"]


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_text_is_refused_for_a_library_of_numbers(folder: Path, kind: str) -> None:
    described = manifest.read(folder)
    manifest.check_numbers(described, "XGBoost")
    (number,) = getattr(described, kind)
    text = [number.model_copy(update={"datatype": "BYTES"})]
    with pytest.raises(ArtifactError, match="is BYTES in the manifest, XGBoost has numbers only"):
        manifest.check_numbers(described.model_copy(update={kind: text}), "XGBoost")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("runtime", "abacus", "'abacus'"),
        ("file", "../doubler.bin", "leaves the model folder"),
        ("sha256", {"/etc/passwd": "0"}, "leaves the model folder"),
        ("sha256", {}, "not in the manifest"),
        ("name", "two words", "name"),
        ("inputs", [], "inputs"),
        ("inputs", [{"name": "x", "datatype": "FLOAT", "shape": [-1, 2]}], "FLOAT"),
        ("surplus", 1, "surplus"),
        ("inputs", [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}] * 2, "the name 'x'"),
        ("outputs", [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}] * 2, "the name 'y'"),
        (
            "inputs",
            [
                {"name": name, "artifact_name": "a", "datatype": "FP32", "shape": [-1, 2]}
                for name in ("x", "y")
            ],
            "the name 'a'",
        ),
    ],
)
def test_wrong_manifests_are_refused(folder: Path, key: str, value: Any, words: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert_refused(folder, words)


def check(
    signature: Signature,
    inputs: tuple[TensorSpec, ...] = (X, Y),
    outputs: tuple[TensorSpec, ...] = (P, Q),
) -> None:
    described = manifest.Manifest(
        name="model",
        version="1",
        runtime="test",
        file="model.bin",
        sha256={},
        inputs=[tensor(spec) for spec in inputs],
        outputs=[tensor(spec) for spec in outputs],
    )
    check_signature(described, signature)


def tensor(spec: TensorSpec) -> manifest.Tensor:
    return manifest.Tensor(name=spec.name, datatype=spec.datatype, shape=list(spec.shape))


def renamed(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(f"{spec.name} of the model", spec.datatype, spec.shape)


@pytest.mark.parametrize(
    "signature",
    [
        Signature((X, Y), (P, Q), named=True),
        Signature((Y, X), (Q, P), named=True),
        Signature((X, Y), (P, Q, renamed(P)), named=True),
        Signature((renamed(X), renamed(Y)), (renamed(P), renamed(Q))),
        Signature((TensorSpec("x", "FP64", (-1, -1)), Y), (P, Q), converts=True),
        Signature((TensorSpec("x", "FP32", ()), Y), (P, Q), named=True),
        Signature((), (P, Q)),
        Signature((), ()),
    ],
    ids=[
        "as named",
        "in another order",
        "with an output that is not served",
        "by position",
        "with conversion and a variable size",
        "of unknown rank",
        "without inputs",
        "without anything",
    ],
)
def test_signature_that_fits(signature: Signature) -> None:
    check(signature)


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (Signature((X, Y, renamed(X)), (P, Q), named=True), "lacks the model's input 'x of the m"),
        (Signature((X,), (P, Q), named=True), "no input 'y', its inputs: x"),
        (Signature((X, Y), (P,), named=True), "no output 'q', its outputs: p"),
        (Signature((X,), (P, Q)), "1 inputs, the manifest has 2"),
        (Signature((X, Y), (P, Q, Q)), "3 outputs, the manifest has 2"),
        (Signature((Y, X), (P, Q)), "input 'x' is INT64"),
        (Signature((TensorSpec("x", "FP64", (-1, 2)), Y), (P, Q), named=True), "FP64 [-1, 2]"),
        (Signature((TensorSpec("x", "FP32", (-1, 3)), Y), (P, Q), named=True), "FP32 [-1, 3]"),
        (Signature((TensorSpec("x", "FP32", (-1,)), Y), (P, Q), named=True), "FP32 [-1]"),
        (Signature((TensorSpec("x", "FP64", (-1, 3)), Y), (P, Q), converts=True), "FP64 [-1, 3]"),
        (Signature((), (TensorSpec("p", "FP32", (-1, 4)), Q), named=True), "output 'p' is FP32"),
    ],
)
def test_signature_that_does_not_fit(signature: Signature, words: str) -> None:
    with pytest.raises(ArtifactError) as refusal:
        check(signature)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_size_that_only_the_manifest_leaves_open_does_not_fit() -> None:
    with pytest.raises(ArtifactError, match="input 'x'"):
        check(Signature((X, Y), (P, Q), named=True), inputs=(TensorSpec("x", "FP32", (-1, -1)), Y))
