"""Just enough HTTP and Open Inference Protocol to ask a service as any client would."""

import http.client
import json
import math
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
JSON_LENGTH: Final = "Inference-Header-Content-Length"

_FORMATS: Final = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}


@dataclass(frozen=True)
class InputTensor:
    """An input of a model; ``data`` are its elements, row-major."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]

    def of_rows(self, rows: Sequence[int]) -> "InputTensor":
        """Return a tensor of these rows, by their index, in this order."""
        width = math.prod(self.shape[1:])
        data = [value for row in rows for value in self.data[row * width : (row + 1) * width]]
        return replace(self, shape=[len(rows), *self.shape[1:]], data=data)


@dataclass(frozen=True)
class Response:
    """An answer, its header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = 30,
) -> Response:
    """Send one request over a connection of its own.

    Raises:
        OSError, http.client.HTTPException: no answer came.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        return _read(connection.getresponse())
    finally:
        connection.close()


def post_json(port: int, path: str, document: Any) -> Response:
    """Post a document as JSON."""
    body = json.dumps(document).encode()
    return ask(port, "POST", path, body, {"Content-Type": "application/json"})


class HeldRequest:
    """A POST of JSON of which half the body is sent: it is in flight until it is finished."""

    def __init__(self, port: int, path: str, document: Any) -> None:
        body = json.dumps(document).encode()
        middle = len(body) // 2
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._rest = body[middle:]
        self._socket = socket.create_connection((HOST, port), timeout=30)
        self._socket.sendall(head.encode("ascii") + body[:middle])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def finish(self) -> Response:
        """Send the other half and read the answer."""
        self._socket.sendall(self._rest)
        answer = http.client.HTTPResponse(self._socket, method="POST")
        answer.begin()
        return _read(answer)


def json_request(inputs: Sequence[InputTensor]) -> dict[str, Any]:
    """Make the document of an inference request in JSON."""
    return {"inputs": [asdict(tensor) for tensor in inputs]}


def binary_request(inputs: Sequence[InputTensor]) -> tuple[bytes, dict[str, str]]:
    """Encode an inference request with binary inputs, asking for binary outputs.

    Returns:
        Body and headers.
    """
    buffers = [_pack(tensor.datatype, tensor.data) for tensor in inputs]
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": tensor.shape,
                    "parameters": {"binary_data_size": len(buffer)},
                }
                for tensor, buffer in zip(inputs, buffers, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return header + b"".join(buffers), {
        "Content-Type": "application/octet-stream",
        JSON_LENGTH: str(len(header)),
    }


def decode_outputs(response: Response) -> dict[str, list[Any]]:
    """Read the outputs of an inference response, JSON or binary, as flat lists by name."""
    length = int(response.headers.get(JSON_LENGTH.lower(), len(response.body)))
    document, buffer = json.loads(response.body[:length]), response.body[length:]
    outputs = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[output["name"]] = list(_flat(output["data"]))
        else:
            outputs[output["name"]] = _unpack(output, buffer[:size])
            buffer = buffer[size:]
    if buffer:
        raise ValueError(f"{len(buffer)} bytes follow the last output")
    return outputs


def samples(port: int, metric: str) -> list[tuple[str, float]]:
    """Read the samples of a Prometheus metric as pairs of labels and value.

    Raises:
        ValueError: the page does not have the metric.
    """
    page = ask(port, "GET", "/metrics").body.decode()
    found = re.findall(rf"^{metric}(\{{.*\}})? (\S+)$", page, re.MULTILINE)
    if not found:
        raise ValueError(f"/metrics has no {metric}")
    return [(labels, float(value)) for labels, value in found]


def alike(left: Any, right: Any, tolerance: float) -> bool:
    """Compare JSON values, numbers with an absolute tolerance."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            alike(left[key], right[key], tolerance) for key in left
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            alike(*pair, tolerance) for pair in zip(left, right, strict=True)
        )
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=0, abs_tol=tolerance)
    return bool(left == right)


def _pack(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)


def _unpack(output: Mapping[str, Any], buffer: bytes) -> list[Any]:
    count = math.prod(output["shape"])
    if output["datatype"] != "BYTES":
        return list(struct.unpack(f"<{count}{_FORMATS[output['datatype']]}", buffer))
    texts = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", buffer)
        texts.append(buffer[4 : 4 + length].decode())
        buffer = buffer[4 + length :]
    return texts


def _flat(data: Any) -> Any:
    if not isinstance(data, list):
        yield data
        return
    for item in data:
        yield from _flat(item)


def _read(answer: http.client.HTTPResponse) -> Response:
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Response(answer.status, headers, answer.read())
