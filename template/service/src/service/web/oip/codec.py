"""Encodes and decodes bodies of the Open Inference Protocol V2.

Source: the REST specification of the ``open-inference-protocol`` repository, and Triton's binary
tensor data extension.
"""

import asyncio
import itertools
import math
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from types import NoneType
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from service.core.errors import InvalidTensors, TooLarge
from service.core.manifest import ModelInfo
from service.core.tensors import DTYPES, Array, Tensors, TensorSpec, datatype_of
from service.core.turns import pause
from service.ops.settings import PREFIX, Settings
from service.web.errors import Malformed
from service.web.strict_json import parse_json

_NOT_IN_JSON: Final = ("FP16", "BF16")
_LENGTH: Final = struct.Struct("<I")
_PIECE: Final = 2**16
"""Elements that are encoded or decoded at a time; the event loop runs between them."""
_BLOCKING_BYTES: Final = 2**20
"""More of binary data leaves the event loop."""
_INTEGER: Final = frozenset({int})
_FORMATS: Final = {
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP32": "f",
    "FP64": "d",
}
"""How `struct` packs numbers, and refuses what is out of their range or no number."""
_FEW: Final = 64
"""Of so many values, each is looked at."""
_TRIES: Final = 32
"""How many letters of JSON are looked at for a beginning of ``true`` or ``false``."""
_TYPES_OF_KIND: Final = {
    "b": frozenset({bool}),
    "i": _INTEGER,
    "u": _INTEGER,
    "f": frozenset({int, float, NoneType}),
    "O": frozenset({str}),
}
_JSON_TYPES: Final = {datatype: _TYPES_OF_KIND[dtype.kind] for datatype, dtype in DTYPES.items()}


class RequestedOutput(NamedTuple):
    """An output that the client wants, and whether as binary data."""

    name: str
    binary: bool


class InferRequest(NamedTuple):
    """A decoded request.

    ``outputs``: empty for all of them. ``timeout``: in seconds.
    """

    id: str | None
    inputs: Tensors
    outputs: tuple[RequestedOutput, ...]
    binary_by_default: bool
    timeout: float | None


class InferResponse(NamedTuple):
    """A response, encoded piece by piece.

    ``pieces``: the body. ``size``: its bytes, None if only the pieces tell. ``json_length``: None
    if all of the body is JSON.
    """

    pieces: Iterator[bytes]
    size: int | None
    json_length: int | None


async def decode_request(
    body: bytes, json_length: int, settings: Settings, *, large: bool
) -> InferRequest:
    """Decode a request.

    ``json_length``: bytes of JSON at the start of the body. ``large``: whether the event loop is to
    run between the steps.

    Raises:
        Malformed: the bytes, the JSON or its structure are wrong.
        InvalidTensors: shape, datatype and data of a tensor contradict each other, or exceed a
            limit.
        TooLarge: there are too many elements of BYTES.
    """
    text = body[:json_length]
    document = _object(parse_json(text), "The body")
    parameters = _parameters(document, "The request")
    buffers = _Buffers(body, json_length, settings.max_values)
    inputs: Tensors = {}
    for entry in _entries(document, "inputs", settings.max_tensors):
        if large:
            await pause()
        name = _name(entry, "An input")
        if name in inputs:
            raise Malformed(f"The input '{name}' occurs twice.")
        inputs[name] = await _decode_tensor(name, entry, buffers, settings.max_elements, text)
    if not inputs:
        raise Malformed("'inputs' must be a list of at least one tensor.")
    buffers.check_end()
    binary_by_default = _flag(parameters, "binary_data_output", default=False)
    return InferRequest(
        id=_optional_id(document),
        inputs=inputs,
        outputs=_requested_outputs(document, binary_by_default, settings.max_outputs),
        binary_by_default=binary_by_default,
        timeout=_timeout(parameters),
    )


def fit_texts(inputs: Tensors, specs: Sequence[TensorSpec]) -> Tensors:
    """Return inputs with BYTES of the shape [N, 1] as [N] where the model takes that, or reversed.

    Clients with MLServer's string codec send [N, 1].
    """
    fitted = dict(inputs)
    for spec in specs:
        array = inputs.get(spec.name)
        if array is None or spec.datatype != "BYTES" or array.dtype != spec.dtype:
            continue
        if len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
            fitted[spec.name] = array[:, 0]
        elif len(spec.shape) == 2 and array.ndim == 1 and spec.accepts((len(array), 1)):
            fitted[spec.name] = array[:, np.newaxis]
    return fitted


def select_outputs(
    request: InferRequest, specs: Sequence[TensorSpec]
) -> tuple[RequestedOutput, ...]:
    """Return the outputs that were requested, or all outputs of the model.

    Raises:
        InvalidTensors: the model does not have a requested output.
    """
    names = [spec.name for spec in specs]
    if not request.outputs:
        return tuple([RequestedOutput(name, request.binary_by_default) for name in names])
    for output in request.outputs:
        if output.name not in names:
            raise InvalidTensors(f"The model has no output '{output.name[:100]}'.")
    return request.outputs


async def encode_response(
    request_id: str | None,
    model: ModelInfo,
    tensors: Tensors,
    outputs: Sequence[RequestedOutput],
) -> InferResponse:
    """Encode a response. Large tensors are left for later, when their pieces are asked for.

    Raises:
        InvalidTensors: an output that cannot be JSON was not requested as binary data.
    """
    entries: list[dict[str, Any]] = []
    large: list[tuple[int, Array]] = []
    buffers: list[Array | bytes] = []
    for output in outputs:
        array = tensors[output.name]
        entry: dict[str, Any] = {
            "name": output.name,
            "shape": array.shape,
            "datatype": datatype_of(array.dtype),
        }
        if output.binary:
            buffer = array if array.dtype.kind != "O" else await _join_elements(array)
            size = buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer)
            entry["parameters"] = {"binary_data_size": size}
            buffers.append(buffer)
        elif array.size <= _PIECE:
            entry["data"] = _to_json(output.name, array.ravel())
        else:
            await _check_json(output.name, array)
            large.append((len(entries), array))
        entries.append(entry)
    document: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request_id is not None:
        document["id"] = request_id
    if large:
        return await _encode_large(document, entries, dict(large), buffers)
    document["outputs"] = entries
    header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return _with_buffers([header], buffers)


async def _encode_large(
    document: dict[str, Any],
    entries: list[dict[str, Any]],
    large: dict[int, Array],
    buffers: list[Array | bytes],
) -> InferResponse:
    """Encode a response with outputs in JSON that are large, given by their place."""
    pieces = _json_pieces(document, entries, large)
    if not buffers:
        return InferResponse(pieces, None, None)
    header = []  # the headers of the response tell its length
    for piece in pieces:
        header.append(piece)
        await pause()
    return _with_buffers(header, buffers)


def _json_pieces(
    document: dict[str, Any], entries: list[dict[str, Any]], large: dict[int, Array]
) -> Iterator[bytes]:
    yield orjson.dumps(document)[:-1] + b',"outputs":['
    for place, entry in enumerate(entries):
        comma = b"," if place else b""
        begin = comma + orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)
        if place not in large:
            yield begin
            continue
        between = begin[:-1] + b',"data":['
        for part in _slices(large[place]):
            data = _to_json(entry["name"], part)
            yield between + orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
            between = b","
        yield b"]}"
    yield b"]}"


def _with_buffers(header: list[bytes], buffers: list[Array | bytes]) -> InferResponse:
    length = sum(map(len, header))
    if not buffers:
        return InferResponse(iter(header), length, None)
    size = length + sum(
        buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer) for buffer in buffers
    )
    if size <= _PIECE:
        body = b"".join((*header, *map(bytes, map(_as_bytes, buffers))))
        return InferResponse(iter((body,)), size, length)
    return InferResponse(itertools.chain(header, _buffer_pieces(buffers)), size, length)


def _buffer_pieces(buffers: list[Array | bytes]) -> Iterator[bytes]:
    for buffer in buffers:
        if isinstance(buffer, bytes):
            yield buffer
        else:
            yield from (part.tobytes() for part in _slices(buffer))


def _as_bytes(buffer: Array | bytes) -> bytes:
    return buffer if isinstance(buffer, bytes) else buffer.tobytes()


def _slices(array: Array) -> Iterator[Array]:
    """Yield the elements of an array in row-major order, in pieces."""
    flat = array.ravel()
    return (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))


async def _check_json(name: str, array: Array) -> None:
    """Check that an output can be JSON, before the response begins."""
    if array.dtype.kind != "O":
        _to_json(name, array.ravel()[:0])
        return
    for part in _slices(array):
        _to_json(name, part)
        await pause()


async def _join_elements(array: Array) -> bytes:
    parts: list[bytes] = []
    for part in _slices(array):
        if parts:
            await pause()
        pairs = ((_LENGTH.pack(len(element)), element) for element in part)
        parts.append(b"".join(itertools.chain.from_iterable(pairs)))
    return b"".join(parts)


class _Buffers:
    """The binary part of a body, read from front to back.

    ``max_texts``: the largest number of elements in all BYTES tensors.
    """

    def __init__(self, body: bytes, start: int, max_texts: int) -> None:
        self._body = memoryview(body)
        self._position = start
        self._max_texts = self._texts = max_texts

    def take(self, size: int, name: str) -> memoryview:
        end = self._position + size
        if end > len(self._body):
            raise Malformed(f"The binary data of the input '{name}' ends too early.")
        buffer = self._body[self._position : end]
        self._position = end
        return buffer

    def count_texts(self, count: int) -> None:
        self._texts -= count
        if self._texts < 0:
            raise TooLarge(
                f"The BYTES tensors have more than {self._max_texts} elements "
                f"({PREFIX}MAX_VALUES). Send fewer, or longer ones."
            )

    def check_end(self) -> None:
        if left := len(self._body) - self._position:
            raise Malformed(f"{left} bytes are left after the last tensor.")


async def _decode_tensor(
    name: str, entry: dict[str, Any], buffers: _Buffers, max_elements: int, text: bytes
) -> Array:
    datatype = entry.get("datatype")
    shape = _shape(name, entry.get("shape"), max_elements)
    size = _parameters(entry, "The input '%s'", name).get("binary_data_size")
    if (size is None) == ("data" not in entry):
        raise Malformed(f"The input '{name}' needs either 'data' or 'binary_data_size'.")
    if size is None and datatype in _NOT_IN_JSON:
        raise InvalidTensors(f"The input '{name}': {datatype} can be sent as binary data only.")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidTensors(f"The datatype of the input '{name}' is not one of the protocol's.")
    if size is None:
        flat = _flatten(name, shape, entry["data"])
        array = _pack(datatype, flat, text)
        return (_from_json(name, datatype, flat) if array is None else array).reshape(shape)
    if type(size) is not int or size < 0:
        raise Malformed(f"The input '{name}': 'binary_data_size' must be a number of bytes.")
    buffer = buffers.take(size, name)
    if datatype == "BYTES":
        buffers.count_texts(math.prod(shape))
        elements = [element async for element in _split_elements(name, buffer, math.prod(shape))]
        return _object_array(elements).reshape(shape)
    if size > _BLOCKING_BYTES:  # to look at them or to copy them takes long
        return await asyncio.to_thread(_from_binary, name, datatype, shape, buffer)
    return _from_binary(name, datatype, shape, buffer)


def _may_have_bools(flat: list[Any], text: bytes) -> bool:
    """Return whether there may be bools among values of a request. ``text``: its JSON.

    To look at the types of many values takes longer than to convert them. So JSON that may have
    ``true`` or ``false`` anywhere counts, such as one with long texts.
    """
    if len(flat) <= _FEW:
        return bool in map(type, flat)
    for letter, word in ((b"t", b"true"), (b"f", b"false")):
        position = text.find(letter)
        for _ in range(_TRIES):
            if position < 0:
                break
            if text.startswith(word, position):
                return True
            position = text.find(letter, position + 1)
        else:
            return True
    return False


def _pack(datatype: str, flat: list[Any], text: bytes) -> Array | None:
    """Convert numbers fast, or return None if that takes a look at each of them.

    ``text``: the JSON that they are from.
    """
    if datatype not in _FORMATS or _may_have_bools(flat, text):  # to `struct`, a bool is a number
        return None
    try:
        packed = struct.pack(f"={len(flat)}{_FORMATS[datatype]}", *flat)
    except (struct.error, OverflowError):
        return None
    return np.frombuffer(packed, dtype=DTYPES[datatype])


def _from_json(name: str, datatype: str, flat: list[Any]) -> Array:
    if not _JSON_TYPES[datatype].issuperset(map(type, flat)):
        raise InvalidTensors(f"The input '{name}' has data that is not {datatype}.")
    if datatype == "BYTES":
        return _object_array([text.encode() for text in flat])
    dtype = DTYPES[datatype]
    try:
        if dtype.kind != "f":
            return np.array(flat, dtype=dtype)
        doubles = np.array(flat, dtype=np.float64)  # None becomes NaN, which has no range
    except OverflowError:
        raise _out_of_range(name, datatype) from None
    with np.errstate(over="ignore"):
        array: Array = doubles.astype(dtype, copy=False)
    if np.isinf(array).any():
        raise _out_of_range(name, datatype)
    return array


def _flatten(name: str, shape: list[int], data: Any) -> list[Any]:
    """Return flat or nested data in row-major order; nested data must follow the shape."""
    if not isinstance(data, list):
        raise InvalidTensors(f"The input '{name}': 'data' must be a list.")
    flat = data
    if data and isinstance(data[0], list):
        if len(data) != next(iter(shape), None):
            raise _disagreement(name)
        for size in shape[1:]:
            if any(not isinstance(row, list) or len(row) != size for row in flat):
                raise _disagreement(name)
            flat = list(itertools.chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _disagreement(name)
    return flat


def _from_binary(name: str, datatype: str, shape: list[int], buffer: memoryview) -> Array:
    count = math.prod(shape)
    dtype = DTYPES[datatype]
    if len(buffer) != count * dtype.itemsize:
        raise _disagreement(name)
    if datatype == "BOOL":
        octets = np.frombuffer(buffer, dtype=np.uint8)
        if (octets > 1).any():
            raise InvalidTensors(f"The input '{name}' has BOOL bytes other than 0 and 1.")
        return octets.view(np.bool_).reshape(shape)
    array = np.frombuffer(buffer, dtype=dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


async def _split_elements(name: str, buffer: memoryview, count: int) -> AsyncIterator[bytes]:
    position = 0
    for number in range(count):
        if number % _PIECE == _PIECE - 1:
            await pause()
        if position + _LENGTH.size > len(buffer):
            raise _disagreement(name)
        (length,) = _LENGTH.unpack_from(buffer, position)
        position += _LENGTH.size
        if position + length > len(buffer):
            raise _disagreement(name)
        yield bytes(buffer[position : position + length])
        position += length
    if position != len(buffer):
        raise _disagreement(name)


def _to_json(name: str, array: Array) -> Any:
    """Return what becomes the JSON of an array with one dimension."""
    if array.dtype.char == "e":
        raise InvalidTensors(f"The output '{name}' is FP16: request it as binary data.")
    if array.dtype.kind != "O":
        return array
    try:
        return [element.decode() for element in array]
    except UnicodeDecodeError:
        raise InvalidTensors(
            f"The output '{name}' is not text: request it as binary data."
        ) from None


def _object_array(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def _shape(name: str, shape: Any, max_elements: int) -> list[int]:
    if (
        not isinstance(shape, list)
        or not _INTEGER.issuperset(map(type, shape))
        or min(shape, default=0) < 0
    ):
        raise InvalidTensors(f"The input '{name}': 'shape' must be a list of sizes.")
    if len(shape) > 32:
        raise InvalidTensors(f"The input '{name}' has more than 32 dimensions.")
    if max(math.prod(shape), *shape, 0) > max_elements:  # a zero hides how large the others are
        raise InvalidTensors(f"The input '{name}' has more than {max_elements} elements.")
    return shape


def _requested_outputs(
    document: dict[str, Any], binary_by_default: bool, limit: int
) -> tuple[RequestedOutput, ...]:
    if "outputs" not in document:
        return ()
    outputs: dict[str, RequestedOutput] = {}
    for entry in _entries(document, "outputs", limit):
        name = _name(entry, "An output")
        if name in outputs:
            raise Malformed(f"The output '{name}' is requested twice.")
        parameters = _parameters(entry, "The output '%s'", name)
        binary = _flag(parameters, "binary_data", default=binary_by_default)
        outputs[name] = RequestedOutput(name, binary)
    return tuple(outputs.values())


def _entries(document: dict[str, Any], key: str, limit: int) -> list[dict[str, Any]]:
    entries = document.get(key, [])
    if not isinstance(entries, list):
        raise Malformed(f"'{key}' must be a list.")
    if len(entries) > limit:
        raise Malformed(f"'{key}' has more than {limit} entries.")
    for entry in entries:
        _object(entry, "An entry of '%s'", key)
    return entries


def _object(value: Any, what: str, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what % names} must be a JSON object.")
    return value


def _name(entry: dict[str, Any], what: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 256:
        raise Malformed(f"{what} needs a 'name' of 1 to 256 characters.")
    return name


def _parameters(entry: dict[str, Any], what: str, *names: str) -> dict[str, Any]:
    parameters = entry.get("parameters")
    return {} if parameters is None else _object(parameters, f"{what}: 'parameters'", *names)


def _flag(parameters: dict[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise Malformed(f"'{key}' must be true or false.")
    return value


def _optional_id(document: dict[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is None or isinstance(request_id, str):
        return request_id
    raise Malformed("'id' must be a string.")


def _timeout(parameters: dict[str, Any]) -> float | None:
    """Return the timeout in seconds; the protocol has microseconds."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise Malformed("'timeout' must be a number of microseconds.")
    return timeout / 1e6 if timeout else None


def _out_of_range(name: str, datatype: str) -> InvalidTensors:
    return InvalidTensors(f"The input '{name}' has data out of the range of {datatype}.")


def _disagreement(name: str) -> InvalidTensors:
    return InvalidTensors(f"The input '{name}': shape, datatype and data disagree.")
