"""Tensors and their specifications."""

import numpy as np
import pytest

from service.core.errors import InvalidTensors
from service.core.tensors import (
    DTYPES,
    Array,
    Tensors,
    TensorSpec,
    batchable,
    check_inputs,
    check_rows,
    convert_output,
    datatype_of,
    decode_text,
    encode_text,
)

X = TensorSpec("x", "FP32", (-1, 2))
Y = TensorSpec("y", "INT64", (-1,))


def test_zeros() -> None:
    assert TensorSpec("x", "FP32", (-1, 3, -1)).zeros(2).shape == (2, 3, 1)
    assert TensorSpec("x", "FP32", (4, 3)).zeros(2).shape == (4, 3)
    assert TensorSpec("x", "FP32", ()).zeros(2).shape == ()
    assert TensorSpec("x", "BYTES", (-1,)).zeros(2).tolist() == [b"", b""]


def test_datatypes_and_dtypes_are_pairs() -> None:
    assert [datatype_of(dtype) for dtype in DTYPES.values()] == list(DTYPES)
    with pytest.raises(ValueError, match="complex64"):
        datatype_of("complex64")


@pytest.mark.parametrize(("datatype", "shape"), [("FLOAT", (-1,)), ("FP32", (-2,))])
def test_specifications_that_mean_nothing(datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tensor 'x'"):
        TensorSpec("x", datatype, shape)


def test_batches_need_a_variable_first_axis_everywhere() -> None:
    assert batchable([X, Y])
    assert not batchable([X, TensorSpec("z", "FP32", (1, 2))])
    assert not batchable([X, TensorSpec("z", "FP32", ())])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((3, 2), np.float64), np.zeros(3, np.int64), "must be FP32"),
        (np.zeros((3, 4), np.float32), np.zeros(3, np.int64), "has shape"),
        (np.zeros((3, 2), np.float32), None, "'y' is missing"),
    ],
)
def test_inputs_that_are_not_the_models(x: Array, y: Array | None, words: str) -> None:
    tensors = {"x": x} if y is None else {"x": x, "y": y}
    with pytest.raises(InvalidTensors, match=words):
        check_inputs([X, Y], tensors)


def test_unknown_input_is_named() -> None:
    tensors: Tensors = {"x": np.zeros((3, 2), np.float32), "z": np.zeros(3, np.int64)}
    with pytest.raises(InvalidTensors, match="no input 'z'"):
        check_inputs([X], tensors)


def test_inputs_of_a_batch_have_equally_many_rows() -> None:
    assert check_rows({"x": np.zeros((3, 2)), "y": np.zeros(3)}) == 3
    with pytest.raises(InvalidTensors, match="number of rows"):
        check_rows({"x": np.zeros((3, 2)), "y": np.zeros(4)})


def test_text_is_the_same_in_and_out() -> None:
    words = ["", "a", "a\0", "\0", "\N{PILL}", "\N{COMBINING ACUTE ACCENT}"]
    encoded = encode_text(np.array(words, dtype=object).reshape(2, 3))
    assert [value.decode() for value in encoded.flat] == words
    decoded = decode_text("x", encoded)
    assert decoded.shape == (2, 3)
    assert decoded.ravel().tolist() == words
    assert decode_text("x", encoded[:0]).shape == (0, 3)
    assert encode_text(np.array([b"as it is", 1, True], dtype=object)).tolist() == [
        b"as it is",
        b"1",
        b"True",
    ]


@pytest.mark.parametrize("broken", [b"\xff", b"caf\xe9", b"\xed\xa0\x80"])
def test_what_is_not_utf_8_is_refused_by_the_name_of_its_input(broken: bytes) -> None:
    with pytest.raises(InvalidTensors, match="'words' has text that is not UTF-8"):
        decode_text("words", np.array([b"right", broken], dtype=object))


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (np.array([1, 2**24]), "FP32"),
        (np.array([0.1, np.nan, np.inf]), "FP32"),
        (np.array([2.0, -3.0], np.float32), "INT64"),
        (np.array([True, False]), "UINT8"),
        (np.array([1, 2], dtype=object), "INT64"),
        (np.array(["a", "b"]), "BYTES"),
        (np.zeros((0, 2)), "INT8"),
    ],
)
def test_outputs_are_converted(values: Array, datatype: str) -> None:
    spec = TensorSpec("y", datatype, values.shape)
    converted = convert_output(spec, values)
    assert (converted.dtype, converted.shape) == (spec.dtype, values.shape)
    wanted = values.astype("S").astype(object) if datatype == "BYTES" else values
    if datatype != "FP32":
        assert (converted == wanted).all()


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (np.array([2**24 + 1]), "FP32"),
        (np.array([2**63 - 1]), "FP64"),
        (np.array([0.5]), "INT64"),
        (np.array([np.nan]), "INT64"),
        (np.array([1e300]), "FP32"),
        (np.array([256]), "UINT8"),
        (np.array([-1]), "UINT64"),
        (np.array([2**63], np.uint64), "INT64"),
        (np.array([2]), "BOOL"),
        (np.array(["1"]), "FP32"),
    ],
)
def test_outputs_that_would_become_others_are_not_converted(values: Array, datatype: str) -> None:
    with pytest.raises(ValueError, match=rf"'y' is .*, with values that {datatype} cannot hold"):
        convert_output(TensorSpec("y", datatype, (-1,)), values)
