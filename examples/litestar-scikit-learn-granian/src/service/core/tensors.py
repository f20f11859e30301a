"""Tensors: their datatypes, shapes and names.

The datatypes are those of the Open Inference Protocol V2. A tensor is a NumPy array; a BYTES tensor
is an object array of ``bytes``, or of None where a column of a table has no value.
"""

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from service.core.errors import InvalidTensors

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}
_DATATYPES: Final = {dtype: datatype for datatype, dtype in DTYPES.items()}


def datatype_of(dtype: npt.DTypeLike) -> str:
    """Return the protocol's name of a NumPy dtype.

    Raises:
        ValueError: the protocol has no such datatype.
    """
    try:
        return _DATATYPES[np.dtype(dtype)]
    except (KeyError, TypeError):
        raise ValueError(f"{dtype} is not a datatype of the protocol") from None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The name, datatype and shape of one of a model's tensors.

    ``shape``: the size of each dimension, -1 where it varies.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in DTYPES:
            raise ValueError(
                f"tensor '{self.name}': unknown datatype '{self.datatype}', "
                f"expected one of {', '.join(DTYPES)}"
            )
        if any(size < -1 for size in self.shape):
            raise ValueError(f"tensor '{self.name}': a dimension is -1 (variable) or its size")

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]

    def accepts(self, shape: Sequence[int]) -> bool:
        """Return whether an array of this shape can be this tensor."""
        if len(shape) != len(self.shape):
            return False
        for wanted, size in zip(self.shape, shape, strict=True):
            if wanted != size and wanted != -1:
                return False
        return True

    def zeros(self, rows: int) -> Array:
        """Return zeros (empty strings for BYTES), with one element in each variable dimension.

        ``rows``: the size of the first dimension where it is variable.
        """
        first, *rest = self.shape or (1,)
        shape = [rows if first == -1 else first, *(1 if size == -1 else size for size in rest)]
        fill: bytes | int = b"" if self.datatype == "BYTES" else 0
        return np.full(shape if self.shape else (), fill, dtype=self.dtype)


@dataclass(frozen=True, slots=True)
class Feature:
    """A column that a model was trained on, as far as its artifact describes it.

    ``datatype``: that of its values. ``categories``: the only values that it may have; empty if the
    artifact does not limit them. ``optional``: whether a value may be missing. ``minimum`` and
    ``maximum``: the bounds of a number.
    """

    name: str
    datatype: str
    categories: tuple[str | int | float, ...] = ()
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Undescribed:
    """A tensor that an artifact has, but does not describe in full.

    ``kind``: input or output. ``description``: what the artifact says of it.
    """

    kind: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, as far as its artifact describes them.

    An empty tuple: the artifact does not describe them. An empty shape: a scalar, or a tensor whose
    rank the artifact does not give. ``named``: the names identify the tensors; otherwise only their
    order does, and the manifest is free to name them. ``converts``: the runtime converts from and
    to other datatypes, which the manifest may then choose. ``features``: the columns of a table, in
    the order of training. ``classes``: those of a classifier, in the order of its probabilities.
    ``undescribed``: tensors that a manifest may only have with the owner's own description.
    ``parameters``: those that the manifest must have, so that the model takes these inputs.
    ``pads_texts``: the model pads the texts of a batch to the longest, so that it should get texts
    of like length together. ``json_outputs``: the names of outputs whose texts are JSON. ``task``:
    what the model is for, if the service has an endpoint for that (see `Manifest`).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    named: bool = False
    converts: bool = False
    features: tuple[Feature, ...] = ()
    classes: tuple[str | int | float, ...] = ()
    undescribed: tuple[Undescribed, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pads_texts: bool = False
    json_outputs: tuple[str, ...] = ()
    task: Literal["embedding"] | None = None


def batchable(specs: Sequence[TensorSpec]) -> bool:
    """Return whether every tensor has a variable first axis, which may then be a batch."""
    return all(spec.shape[:1] == (-1,) for spec in specs)


def check_inputs(specs: Sequence[TensorSpec], tensors: Tensors) -> None:
    """Check that tensors are the model's inputs.

    Raises:
        InvalidTensors: a tensor is missing or unknown, or has another datatype or shape.
    """
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None or len(tensors) != len(specs):
            raise _wrong_names(specs, tensors)
        if array.dtype != spec.dtype:
            raise InvalidTensors(f"The input '{spec.name}' must be {spec.datatype}.")
        if not spec.accepts(array.shape):
            raise InvalidTensors(
                f"The input '{spec.name}' has shape {list(array.shape)}, "
                f"the model takes {list(spec.shape)}."
            )


def check_rows(tensors: Tensors) -> int:
    """Return the number of rows of a batch.

    Raises:
        InvalidTensors: the tensors disagree in it.
    """
    rows = set(map(len, tensors.values()))
    if len(rows) > 1:
        raise InvalidTensors("The inputs disagree in their number of rows.")
    return rows.pop()


def layout(tensors: Tensors) -> Hashable:
    """Return names, datatypes and shapes beyond the first axis, which must agree in a batch."""
    return tuple([(name, array.dtype, array.shape[1:]) for name, array in sorted(tensors.items())])


def join(tensors: Sequence[Tensors]) -> Tensors:
    """Join tensors of one layout along the first axis."""
    if len(tensors) == 1:
        return tensors[0]
    return {name: np.concatenate([each[name] for each in tensors]) for name in tensors[0]}


def split(tensors: Tensors, rows: Sequence[int]) -> Iterator[Tensors]:
    """Split tensors along the first axis. ``rows``: how many each part has."""
    start = 0
    for count in rows:
        yield {name: array[start : start + count] for name, array in tensors.items()}
        start += count


def decode_text(name: str, array: Array) -> Array:
    """Return a BYTES tensor as an object array of ``str``.

    Raises:
        InvalidTensors: an element is None, or not UTF-8. ``name`` is the tensor's, for the message.
    """
    try:
        texts = [value.decode() for value in array.flat]
    except AttributeError:
        raise InvalidTensors(f"The input '{name}' lacks a text.") from None
    except UnicodeDecodeError:
        raise InvalidTensors(f"The input '{name}' has text that is not UTF-8.") from None
    return _objects(texts, array.shape)


def encode_text(array: Array) -> Array:
    """Return an array of text as a BYTES tensor.

    None stays None, a missing text; other values are written as Python writes them.
    """
    values = [
        value if value is None or isinstance(value, bytes) else str(value).encode()
        for value in array.flat
    ]
    return _objects(values, array.shape)


def convert_output(spec: TensorSpec, values: Array) -> Array:
    """Return a model's output in the datatype of its manifest. Only floats may be rounded.

    Raises:
        ValueError: the datatype cannot hold the values.
    """
    if spec.datatype == "BYTES":
        encoded = encode_text(values)
        if any(value is None for value in encoded.flat):
            raise ValueError(f"the output '{spec.name}' lacks a text")
        return encoded
    if values.dtype == spec.dtype:
        return values
    with contextlib.suppress(FloatingPointError), np.errstate(over="raise", invalid="raise"):
        converted = values.astype(spec.dtype)
        if values.dtype.kind == spec.dtype.kind == "f" or _equal(converted, values):
            return converted
    raise ValueError(
        f"the output '{spec.name}' is {values.dtype}, with values that {spec.datatype} cannot hold"
    )


def _equal(converted: Array, values: Array) -> bool:
    """Return whether a conversion kept every value. Each comparison alone misses some."""
    return bool(np.all((converted == values) & (converted.astype(values.dtype) == values)))


def _objects(values: Sequence[object], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _wrong_names(specs: Sequence[TensorSpec], tensors: Tensors) -> InvalidTensors:
    names = {spec.name for spec in specs}
    for name in tensors:
        if name not in names:
            return InvalidTensors(f"The model has no input '{name[:100]}'.")
    return InvalidTensors(f"The input '{min(names - tensors.keys())}' is missing.")
