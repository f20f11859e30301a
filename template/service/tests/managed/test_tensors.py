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
    datatype_of,
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
