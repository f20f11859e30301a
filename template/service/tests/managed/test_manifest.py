"""The manifest, checked against the files and the tensors of an artifact."""

import json
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
        ("doubler.bin.data", b"surplus", "not in the manifest"),
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
