"""Every datatype of the protocol, with the ends of its range, in and out, as JSON and as binary."""

import json
from typing import Any

import numpy as np
import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler
from service.core.tensors import DTYPES, Tensors, TensorSpec

pytestmark = pytest.mark.anyio

LENGTH = "Inference-Header-Content-Length"
INTEGERS = [datatype for datatype, dtype in DTYPES.items() if dtype.kind in "iu"]
# NumPy's names, and little-endian, whatever `DTYPES` says.
NUMPY = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
WAYS = [
    (datatype, binary, binary_wanted)
    for datatype in DTYPES
    for binary in (False, True)
    for binary_wanted in (False, True)
    if datatype != "FP16" or (binary and binary_wanted)
]


class Echo(Doubler):
    """A model that gives back what it gets."""

    def __init__(self, datatype: str) -> None:
        super().__init__((TensorSpec("x", datatype, (-1,)),), (TensorSpec("y", datatype, (-1,)),))
        self.seen: list[Any] = []

    def run(self, batch: Tensors) -> Tensors:
        self.seen = batch["x"].tolist()
        return {"y": batch["x"].copy()}


def values(datatype: str) -> list[Any]:
    """Return values at and beside the ends of the range, and those that other datatypes lack."""
    if datatype == "BOOL":
        return [True, False, False]
    if datatype == "BYTES":
        return ["", "a", "é", "\0", "a\0", "x" * 300]
    dtype = np.dtype(NUMPY[datatype])
    if dtype.kind != "f":
        ends = np.iinfo(dtype)
        beside = [2**bits + 1 for bits in (24, 31, 53, 62) if 2**bits < ends.max]
        return [int(ends.min), int(ends.min) + 1, 0, 1, *beside, int(ends.max) - 1, int(ends.max)]
    limits: Any = np.finfo(dtype)
    numbers = [0.0, -1.5, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 1 / 3]
    return [float(dtype.type(number)) for number in numbers]


def buffer_of(datatype: str, given: list[Any]) -> bytes:
    if datatype != "BYTES":
        return np.array(given, NUMPY[datatype]).tobytes()
    texts = [text.encode() for text in given]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def request(
    datatype: str, given: list[Any], *, binary: bool, binary_wanted: bool
) -> tuple[bytes, dict[str, str]]:
    tensor: dict[str, Any] = {"name": "x", "shape": [len(given)], "datatype": datatype}
    buffer = buffer_of(datatype, given) if binary else b""
    if binary:
        tensor["parameters"] = {"binary_data_size": len(buffer)}
    else:
        tensor["data"] = given
    document: dict[str, Any] = {"inputs": [tensor]}
    if binary_wanted:
        document["parameters"] = {"binary_data_output": True}
    header = json.dumps(document).encode()
    return header + buffer, {LENGTH: str(len(header))}


@pytest.mark.parametrize(("datatype", "binary", "binary_wanted"), WAYS)
async def test_values_are_the_same_in_the_model_and_in_the_answer(
    serve: Serve, datatype: str, binary: bool, binary_wanted: bool
) -> None:
    given = values(datatype)
    model = Echo(datatype)
    body, headers = request(datatype, given, binary=binary, binary_wanted=binary_wanted)
    async with serve(model) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    seen = [each.decode() for each in model.seen] if datatype == "BYTES" else model.seen
    assert seen == given
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, [len(given)])
    if binary_wanted:
        assert answer.content[length:] == buffer_of(datatype, given)
    else:
        found = output["data"]
        assert (np.array(found, "<f4").tolist() if datatype == "FP32" else found) == given
        assert [type(each) for each in output["data"]] == [type(each) for each in given]


@pytest.mark.parametrize("flag", [False, True], ids=["", "beside-true"])
@pytest.mark.parametrize("datatype", [*INTEGERS, "FP32", "FP64"])
async def test_many_numbers_of_json(serve: Serve, datatype: str, flag: bool) -> None:
    given = values(datatype) * 30
    model = Echo(datatype)
    body, headers = request(datatype, given, binary=False, binary_wanted=flag)
    async with serve(model, max_batch_size=512) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert model.seen == given


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("step", [-1, 1])
async def test_whole_numbers_beyond_the_range_are_refused(
    serve: Serve, datatype: str, step: int
) -> None:
    given = values(datatype)
    beyond = min(given) - 1 if step < 0 else max(given) + 1
    body, headers = request(datatype, [0, beyond], binary=False, binary_wanted=False)
    async with serve(Echo(datatype)) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert f"out of the range of {datatype}" in answer.json()["error"]


@pytest.mark.parametrize("many", [1, 400])
@pytest.mark.parametrize("sign", [-1, 1])
async def test_floats_beyond_the_range_are_refused(serve: Serve, sign: int, many: int) -> None:
    given = [0.0, sign * 3.5e38] * many
    body, headers = request("FP32", given, binary=False, binary_wanted=False)
    async with serve(Echo("FP32")) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert "out of the range of FP32" in answer.json()["error"]


@pytest.mark.parametrize("other", [0, None], ids=["numbers", "with-null"])
async def test_what_rounds_to_the_largest_float_is_within_the_range(
    serve: Serve, other: float | None
) -> None:
    given = [3.4028235e38, -3.4028235e38, other]
    body, headers = request("FP32", given, binary=False, binary_wanted=False)
    async with serve(Echo("FP32")) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [3.4028235e38, -3.4028235e38, other]


@pytest.mark.parametrize("many", [1, 400])
async def test_doubles_keep_all_their_bits(serve: Serve, many: int) -> None:
    given = [0.1, 1 / 3] * many
    body, headers = request("FP64", given, binary=False, binary_wanted=False)
    async with serve(Echo("FP64")) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == given


@pytest.mark.parametrize("octet", [2, 3, 127, 128, 255])
async def test_bool_is_zero_or_one(serve: Serve, octet: int) -> None:
    body, headers = request("BOOL", [True], binary=True, binary_wanted=False)
    async with serve(Echo("BOOL")) as service:
        answer = await service.client.post(
            INFER, content=body[:-1] + bytes([octet]), headers=headers
        )
    assert answer.status_code == 400
    assert "other than 0 and 1" in answer.json()["error"]


@pytest.mark.parametrize("datatype", ["INT16", "INT64", "FP32", "FP64"])
async def test_binary_data_may_begin_at_any_byte(serve: Serve, datatype: str) -> None:
    given = values(datatype)
    body, headers = request(datatype, given, binary=True, binary_wanted=True)
    header, buffer = body[: int(headers[LENGTH])], body[int(headers[LENGTH]) :]
    async with serve(model := Echo(datatype)) as service:
        for spaces in range(8):
            padded = header + b" " * spaces
            answer = await service.client.post(
                INFER, content=padded + buffer, headers={LENGTH: str(len(padded))}
            )
            assert answer.content[int(answer.headers[LENGTH]) :] == buffer
            assert model.seen == given
