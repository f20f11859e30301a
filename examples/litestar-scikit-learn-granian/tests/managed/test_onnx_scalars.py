"""Scalars among the inputs and outputs of an ONNX model, read from bytes made here."""

from pathlib import Path

import pytest

from service.core.onnx_scalars import scalars

VARINT = b"\x08\x96\x01"
EIGHT_BYTES = b"\x09" + b"\x7a" * 8
FOUR_BYTES = b"\x0d" + b"\x3a" * 4
"""Fields of the other kinds, the first with a number of two bytes; 7a and 3a are also tags."""


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 2**14
    length = (
        [len(content)] if len(content) < 0x80 else [len(content) & 0x7F | 0x80, len(content) >> 7]
    )
    return bytes([number << 3 | 2, *length]) + content


def value(name: str, dimensions: int | None) -> bytes:
    """Make the description of a tensor; None dimensions: it has no shape."""
    shape = b"" if dimensions is None else field(2, field(1, b"\x08\x04") * dimensions)
    tensor = field(1, VARINT + shape)
    return field(1, name.encode()) + FOUR_BYTES + field(2, tensor)


def model(*values: bytes, before: bytes = b"") -> bytes:
    return before + field(7, before + b"".join(values))


@pytest.mark.parametrize("before", [b"", VARINT, EIGHT_BYTES, FOUR_BYTES, field(8, b"\x3a" * 200)])
def test_scalars_are_told_from_tensors_without_a_shape(before: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    inputs = [
        field(11, value("rate", 0)),
        field(11, value("row", 1)),
        field(11, value("any", None)),
    ]
    outputs = [
        field(12, value("loss", 0)),
        field(12, value("grid", 2)),
        field(13, value("other", 0)),
    ]
    file.write_bytes(model(*inputs, *outputs, before=before))
    assert scalars(file) == {"rate", "loss"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0b\x00",
        b"\xff" * 20,
        model(field(11, value("rate", 0)))[:-1],
        field(7, field(11, value("rate", 0)[:-2]) + b"\x12\x00"),
    ],
    ids=["empty", "a group", "no number ends", "cut", "longer than its message"],
)
def test_what_is_not_onnx_has_no_scalars(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert scalars(file) == frozenset()
