"""The Open Inference Protocol V2, as clients see it."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler
from service.core.tensors import TensorSpec

pytestmark = pytest.mark.anyio

BINARY_LENGTH = "Inference-Header-Content-Length"


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4], **changed}


def binary_body(document: dict[str, Any], *buffers: bytes) -> tuple[bytes, dict[str, str]]:
    header = json.dumps(document).encode()
    return b"".join((header, *buffers)), {BINARY_LENGTH: str(len(header))}


async def test_metadata(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        server = (await service.client.get("/v2")).json()
        model = (await service.client.get("/v2/models/doubler/versions/1")).json()
    assert server.keys() == {"name", "version", "extensions"}
    assert "binary_tensor_data" in server["extensions"]
    assert model["name"] == "doubler"
    assert model["versions"] == ["1"]
    assert model["platform"] == "test"
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert model["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]


@pytest.mark.parametrize("path", [INFER, "/v2/models/doubler/versions/1/infer"])
async def test_json_tensors(serve: Serve, path: str) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(path, json={"id": "7", "inputs": [tensor()]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model_name": "doubler",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "y", "shape": [2, 2], "datatype": "FP32", "data": [2, 4, 6, 8]}],
    }


async def test_nested_data_and_no_content_type(serve: Serve) -> None:
    body = json.dumps({"inputs": [tensor(data=[[1, 2], [3, 4]])]}).encode()
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, content=body)
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]
    assert "id" not in answer.json()


async def test_binary_tensors(serve: Serve) -> None:
    x = np.array([[1, 2], [3, np.nan]], np.float32)
    entry = {**tensor(parameters={"binary_data_size": x.nbytes})}
    del entry["data"]
    document = {"inputs": [entry], "parameters": {"binary_data_output": True}}
    body, headers = binary_body(document, x.tobytes())
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[BINARY_LENGTH])
    output = json.loads(answer.content[:length])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": x.nbytes}
    y = np.frombuffer(answer.content[length:], np.float32).reshape(output["shape"])
    np.testing.assert_array_equal(y, x + x)


async def test_output_selection_overrides_the_default(serve: Serve) -> None:
    document = {
        "inputs": [tensor()],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, json=document)
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]


async def test_text_tensors(serve: Serve) -> None:
    model = Doubler((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))
    text = tensor(shape=[2], datatype="BYTES", data=["a", "é"])
    elements = b"\x01\0\0\0a\x02\0\0\0" + "é".encode()
    entry = {**text, "parameters": {"binary_data_size": len(elements)}}
    del entry["data"]
    body, headers = binary_body({"inputs": [entry]}, elements)
    async with serve(model) as service:
        from_json = await service.client.post(INFER, json={"inputs": [text]})
        from_binary = await service.client.post(INFER, content=body, headers=headers)
    assert from_json.json()["outputs"][0]["data"] == ["aa", "éé"]
    assert from_binary.json() == from_json.json()


@pytest.mark.parametrize(
    "elements", [b"\1\0\0\0a\0", b"\1\0\0\0", b"\1\0\0", b"", b"\1\0\0\0a\0\0\0\0"]
)
async def test_binary_text_that_does_not_fit_its_shape(serve: Serve, elements: bytes) -> None:
    model = Doubler((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))
    entry = tensor(shape=[1], datatype="BYTES", parameters={"binary_data_size": len(elements)})
    del entry["data"]
    body, headers = binary_body({"inputs": [entry]}, elements)
    async with serve(model) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("taken", "sent", "status"),
    [((-1,), [2, 1], 200), ((-1, 1), [2], 200), ((-1, -1), [2], 200), ((-1,), [1, 2], 400)],
)
async def test_text_may_be_a_list_or_a_column(
    serve: Serve, taken: tuple[int, ...], sent: list[int], status: int
) -> None:
    model = Doubler((TensorSpec("x", "BYTES", taken),), (TensorSpec("y", "BYTES", taken),))
    text = tensor(shape=sent, datatype="BYTES", data=["a", "b"])
    async with serve(model) as service:
        answer = await service.client.post(INFER, json={"inputs": [text]})
    assert answer.status_code == status
    if status == 200:
        (output,) = answer.json()["outputs"]
        assert (output["shape"], output["data"]) == ([2, 1][: len(taken)], ["aa", "bb"])


async def test_numbers_are_never_reshaped(serve: Serve) -> None:
    model = Doubler((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    async with serve(model) as service:
        answer = await service.client.post(INFER, json={"inputs": [tensor(shape=[4, 1])]})
    assert answer.status_code == 400


async def test_nan_and_infinity_are_null_in_json(serve: Serve) -> None:
    x = np.array([[np.nan, np.inf]], np.float32)
    entry = tensor(shape=[1, 2], parameters={"binary_data_size": x.nbytes})
    del entry["data"]
    body, headers = binary_body({"inputs": [entry]}, x.tobytes())
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [None, None]


@pytest.mark.parametrize(("datatype", "status"), [("FP32", 200), ("FP64", 200), ("INT64", 400)])
@pytest.mark.parametrize("rows", [1, 200])
async def test_null_is_nan_in_floats(serve: Serve, datatype: str, status: int, rows: int) -> None:
    specs = (TensorSpec("x", datatype, (-1, 2)),), (TensorSpec("y", datatype, (-1, 2)),)
    text = tensor(shape=[rows, 2], datatype=datatype, data=[1, None] * rows)
    async with serve(Doubler(*specs)) as service:
        answer = await service.client.post(INFER, json={"inputs": [text]})
        large = {**text, "data": [1e39, None] * rows}
        too_large = await service.client.post(INFER, json={"inputs": [large]})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["outputs"][0]["data"] == [2, None] * rows
    assert too_large.status_code == (200 if datatype == "FP64" else 400)


async def test_no_rows_give_no_rows(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, json={"inputs": [tensor(shape=[0, 2], data=[])]})
    assert answer.json()["outputs"][0]["shape"] == [0, 2]
    assert answer.json()["outputs"][0]["data"] == []


def members(body: bytes) -> bytes:
    return b"".join(gzip.compress(part) for part in (body[:9], b"", body[9:]))


@pytest.mark.parametrize(
    ("encoding", "squeeze"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("gzip", members)],
    ids=["gzip", "deflate", "gzip in several members"],
)
async def test_compression_both_ways(
    serve: Serve, encoding: str, squeeze: Callable[[bytes], bytes]
) -> None:
    rows = 500
    document = {"inputs": [tensor(shape=[rows, 2], data=[1.5] * rows * 2)]}
    async with serve(Doubler()) as service:
        answer = await service.client.post(
            INFER,
            content=squeeze(json.dumps(document).encode()),
            headers={"content-encoding": encoding, "accept-encoding": encoding},
        )
        plain = await service.client.post(INFER, json=document, headers={"accept-encoding": "br"})
    assert answer.headers["content-encoding"] == encoding
    assert "content-encoding" not in plain.headers
    assert answer.json() == plain.json()
    assert plain.json()["outputs"][0]["data"] == [3.0] * rows * 2


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (tensor(name="z"), "no input 'z'"),
        (tensor(datatype="INT32"), "must be FP32"),
        (tensor(datatype="FP16"), "binary data only"),
        (tensor(datatype="BF16"), "binary data only"),
        (tensor(datatype="FLOAT"), "not one of the protocol"),
        (tensor(shape=[4, 1]), "shape"),
        (tensor(shape=[2, 3]), "disagree"),
        (tensor(shape=[2, -2]), "list of sizes"),
        (tensor(shape=[2**40, 2**40]), "elements"),
        (tensor(shape=[0, 2**63], data=[]), "elements"),
        (tensor(shape=[2**62, 0, 4], data=[]), "elements"),
        (tensor(shape="2,2"), "list of sizes"),
        (tensor(data=[[1, 2, 3], [4]]), "disagree"),
        (tensor(data=[1, 2, 3, "4"]), "not FP32"),
        (tensor(data=[1, 2, 3, True]), "not FP32"),
        (tensor(data=[1, 2, 3, False]), "not FP32"),
        (tensor(datatype="INT8", data=[0, False, 1, 2]), "not INT8"),
        (tensor(datatype="UINT64", data=[0, 1, True, 2]), "not UINT64"),
        (tensor(data=[1, 2, 3, [4]]), "not FP32"),
        (tensor(data=[1, 2, 3, 1e300]), "out of the range"),
        (tensor(datatype="INT8", data=[1, 2, 3, 128]), "out of the range"),
        (tensor(datatype="UINT8", data=[1, 2, 3, -1]), "out of the range"),
        (tensor(datatype="INT64", data=[1, 2, 3, 2**64]), "out of the range"),
        (tensor(datatype="FP64", data=[1, 2, 3, 10**400]), "out of the range"),
        (tensor(datatype="INT32", data=[1, 2, 3, 1.0]), "not INT32"),
        (tensor(datatype="BOOL", data=[1, 0, 1, 0]), "not BOOL"),
        (tensor(parameters={"binary_data_size": 16}), "either"),
        (tensor(parameters=[]), "JSON object"),
        (tensor(name=""), "1 to 256"),
    ],
)
async def test_wrong_tensors(serve: Serve, entry: dict[str, Any], words: str) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, json={"inputs": [entry]})
    assert_protocol_error(answer, 400, words)


@pytest.mark.parametrize("text", ["", "tf" * 50], ids=["short", "long"])
@pytest.mark.parametrize("flag", [True, False])
async def test_booleans_among_many_numbers(serve: Serve, flag: bool, text: str) -> None:
    many = tensor(shape=[100, 2], data=[*[1] * 199, flag])
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, json={"id": text, "inputs": [many]})
    assert_protocol_error(answer, 400, "not FP32")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "JSON object"),
        ({}, "at least one"),
        ({"inputs": []}, "at least one"),
        ({"inputs": {}}, "list"),
        ({"inputs": [tensor(), tensor()]}, "twice"),
        ({"inputs": [tensor()] * 65}, "more than 64"),
        ({"inputs": [tensor()], "outputs": [{"name": "z"}]}, "no output 'z'"),
        ({"inputs": [tensor()], "outputs": [{"name": "y"}] * 2}, "twice"),
        ({"inputs": [tensor()], "id": 7}, "string"),
        ({"inputs": [tensor()], "parameters": {"timeout": "1"}}, "microseconds"),
        ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "true or false"),
    ],
)
async def test_wrong_requests(serve: Serve, document: Any, words: str) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, json=document)
    assert_protocol_error(answer, 400, words)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": []} x',
        b'{"inputs": [NaN]}',
        b'{"inputs": [], "inputs": []}',
        b"[" * 50_000,
        b'{"inputs": ' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
async def test_bodies_that_are_not_strict_json(serve: Serve, body: bytes) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, content=body)
    assert_protocol_error(answer, 400, "not valid JSON")


@pytest.mark.parametrize(
    ("size", "buffer", "length_change", "words"),
    [
        (16, bytes(15), 0, "too early"),
        (16, bytes(17), 0, "left"),
        (15, bytes(15), 0, "disagree"),
        (-1, bytes(16), 0, "number of bytes"),
        (16, bytes(16), 1000, "within the body"),
    ],
)
async def test_wrong_binary_bodies(
    serve: Serve, size: int, buffer: bytes, length_change: int, words: str
) -> None:
    entry = tensor(parameters={"binary_data_size": size})
    del entry["data"]
    body, headers = binary_body({"inputs": [entry]}, buffer)
    headers[BINARY_LENGTH] = str(int(headers[BINARY_LENGTH]) + length_change)
    async with serve(Doubler()) as service:
        answer = await service.client.post(INFER, content=body, headers=headers)
    assert_protocol_error(answer, 400, words)


async def test_limits_are_settings(serve: Serve) -> None:
    async with serve(Doubler(), max_elements=3, max_body_bytes=1000) as service:
        elements = await service.client.post(INFER, json={"inputs": [tensor()]})
        declared = await service.client.post(INFER, content=bytes(1001))
        bomb = gzip.compress(bytes(100_000))
        unpacked = await service.client.post(
            INFER, content=bomb, headers={"content-encoding": "gzip"}
        )
        several = await service.client.post(
            INFER, content=gzip.compress(bytes(600)) * 2, headers={"content-encoding": "gzip"}
        )
        chunked = await service.client.post(INFER, content=chunks())
    assert_protocol_error(elements, 400, "more than 3 elements")
    for answer in (declared, unpacked, several, chunked):
        assert_protocol_error(answer, 413, "larger than 1000 bytes")


async def test_unknown_names_and_methods(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        for path in ("/v2/models/other", "/v2/models/doubler/versions/2", "/v2/no", "/v2/"):
            assert_protocol_error(await service.client.get(path), 404, "")
        wrong_method = await service.client.get(INFER)
    assert_protocol_error(wrong_method, 405, "POST")
    assert wrong_method.headers["allow"] == "POST"


async def chunks() -> Any:
    for _ in range(11):
        yield bytes(100)


def assert_protocol_error(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]
