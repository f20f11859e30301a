"""Sends mutated requests to a service, in process, and checks every answer with an oracle.

Run it in an emitted project, with ``src`` and ``tests`` in PYTHONPATH. It prints a JSON object: how
many requests had which status, and the first answers that were wrong.

A request may be refused as the contract says. If it is answered, the answer must be what the model
gives for the tensors in the body, which the oracle reads by itself, and for no other request's.
"""

import argparse
import asyncio
import copy
import gzip
import json
import logging
import math
import random
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from managed.importing import import_with_stand_ins, isolate
from managed.support import Doubler, FakeRuntime, running, until, write_model

from service.core.tensors import DTYPES, Tensors, TensorSpec
from service.ops.settings import Settings

LENGTH = "inference-header-content-length"
GROUP = 8
"""Requests at a time, so that they share batches."""
REFUSALS = {400, 404, 405, 413, 415, 422}
PYTHON_TYPES = {
    "FP32": {int, float, type(None)},
    "FP64": {int, float, type(None)},
    "INT64": {int},
    "BYTES": {str},
    "BOOL": {bool},
}
LIMIT = 20.0
"""Seconds for a group of requests, far more than it takes."""
ODD: Sequence[Any] = (
    *(None, True, False, 0, -1, 1.5, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 1e39, 1e308),
    *("", "x", "FP32", "INT64", "BYTES", "BF16", "a" * 300, "\ud83d\udc8a", "\0", [], [[]], [1]),
    *([1, 2], [-1], [0], [[1, 2], [3]], {}, {"a": 1}, {"binary_data_size": 4}),
)


class Mixed(Doubler):
    """A model of three inputs and four outputs, each row by itself."""

    def __init__(self) -> None:
        super().__init__(
            (
                TensorSpec("a", "FP32", (-1, 2)),
                TensorSpec("b", "INT64", (-1,)),
                TensorSpec("t", "BYTES", (-1,)),
            ),
            (
                TensorSpec("sum", "FP64", (-1,)),
                TensorSpec("next", "INT64", (-1, 2)),
                TensorSpec("turned", "BYTES", (-1,)),
                TensorSpec("positive", "BOOL", (-1,)),
            ),
        )

    def run(self, batch: Tensors) -> Tensors:
        self.batches.append(len(batch["a"]))
        return mixed(batch)


def mixed(tensors: Tensors) -> Tensors:
    a, b, t = tensors["a"], tensors["b"], tensors["t"]
    turned = np.empty(len(t), dtype=object)
    turned[:] = [text.decode("utf-8", "replace")[::-1].encode() for text in t]
    with np.errstate(all="ignore"):
        total = a.astype(np.float64).sum(axis=1) + b
        return {
            "sum": total,
            "next": np.stack([b ^ 1, b // 2], axis=1),
            "turned": turned,
            "positive": a[:, 0] > 0,
        }


class Detector(Doubler):
    """A model that finds the places of the numbers above a half: other rows than it was given."""

    def __init__(self) -> None:
        super().__init__(
            (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("found", "INT64", (-1, 2)),)
        )

    def run(self, batch: Tensors) -> Tensors:
        self.batches.append(len(batch["x"]))
        return detect(batch)


def detect(tensors: Tensors) -> Tensors:
    return {"found": np.argwhere(tensors["x"] > 0.5)}


class Wrong(Exception):
    """An answer that no service may give. The text says why."""


class Request:
    """A request: its path, headers and body."""

    def __init__(self, path: str, document: dict[str, Any], data: bytes | None = None) -> None:
        self.path = path
        self.document = document
        self.data = data
        self.headers: dict[str, str] = {}
        self.body = b""
        self.valid = True
        """Whether nothing was changed that a service may refuse."""

    def finish(self, chance: random.Random) -> None:
        """Write the document and mutate bytes and headers, now and then."""
        head = _dump(self.document)
        if chance.random() < 0.03:
            head = _repeat_key(head, chance)
            self.valid = False
        self.body = head + (self.data or b"")
        self.headers = {"content-type": "application/json"}
        if self.data is not None:
            self.headers[LENGTH] = str(len(head))
        kind = chance.random()
        self.valid = self.valid and kind >= 0.15 and not (0.25 <= kind < 0.3)
        if kind < 0.15:
            self.body = _flip(self.body, chance)
        elif kind < 0.25:
            encoding = chance.choice(["gzip", "deflate"])
            pack = gzip.compress if encoding == "gzip" else zlib.compress
            self.body = pack(self.body)
            self.headers["content-encoding"] = encoding
            if chance.random() < 0.3:
                self.body = _flip(self.body, chance)
                self.valid = False
        elif kind < 0.3:
            name, value = chance.choice(
                [
                    (LENGTH, str(chance.choice([0, 1, len(head) - 1, len(head) + 1, 10**9]))),
                    ("content-type", chance.choice(["text/plain", "application/octet-stream"])),
                    ("request-timeout", chance.choice(["0", "-1", "x", "10", "1e1"])),
                    ("content-encoding", chance.choice(["br", "gzip", "identity"])),
                    ("accept-encoding", chance.choice(["gzip", "deflate", "br", "*"])),
                ]
            )
            self.headers[name] = value


def _dump(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _repeat_key(head: bytes, chance: random.Random) -> bytes:
    """Repeat a key of an object, before or behind it."""
    text = head.decode("utf-8", "surrogatepass")
    keys = [part for part in text.split('"')[1::2] if part] or ["x"]
    extra = f"{json.dumps(chance.choice(keys))}: 1"
    text = chance.choice([f"{{{extra}, {text[1:]}", f"{text[:-1]}, {extra}}}"])
    return text.encode("utf-8", "surrogatepass")


def _flip(body: bytes, chance: random.Random) -> bytes:
    if not body:
        return body
    place = chance.randrange(len(body))
    match chance.randrange(4):
        case 0:
            return body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :]
        case 1:
            return body[:place] + bytes([chance.randrange(256)]) + body[place:]
        case 2:
            return body[:place] + body[place + 1 :]
    return body[:place]


def _mutate(document: Any, chance: random.Random) -> None:
    """Change one place of a document."""
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            places.append((value, key))
            if isinstance(child, dict | list):
                visit(child)

    visit(document)
    if not places:
        return
    container, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[f"{key}x"] = container.pop(key)
        case 2 if isinstance(container, list):
            container.insert(key, copy.deepcopy(chance.choice(ODD)))
        case _:
            container[key] = copy.deepcopy(chance.choice(ODD))


def _number(chance: random.Random) -> float:
    return chance.choice([0.0, 1.0, -1.0, 0.25, 1e-3, 100.0, chance.uniform(-9, 9)])


def _integer(chance: random.Random) -> int:
    return chance.choice([0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), chance.randrange(1000)])


def _text(chance: random.Random) -> str:
    return chance.choice(["", "a", "a\0", "caf\u00e9", "\U0001f48a", "x" * chance.randrange(40)])


def _tensor(name: str, spec: TensorSpec, rows: int, chance: random.Random) -> dict[str, Any]:
    shape = [rows, *spec.shape[1:]]
    make: Callable[[random.Random], Any]
    make = {"FP32": _number, "INT64": _integer, "BYTES": _text}[spec.datatype]
    data: list[Any] = [make(chance) for _ in range(math.prod(shape))]
    if len(shape) == 2 and chance.random() < 0.3:
        width = shape[1]
        data = [data[start : start + width] for start in range(0, len(data), width)]
    return {"name": name, "shape": shape, "datatype": spec.datatype, "data": data}


def _packed(entry: dict[str, Any]) -> bytes:
    """Move the data of a tensor out of its entry."""
    data = np.array(entry.pop("data"), dtype=object).ravel().tolist()
    if entry["datatype"] == "BYTES":
        packed = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in data)
    else:
        packed = np.array(data, dtype=DTYPES[entry["datatype"]]).tobytes()
    entry["parameters"] = {"binary_data_size": len(packed)}
    return packed


def infer_request(model: Doubler, chance: random.Random) -> Request:
    """Make a request of the protocol, and mutate its document up to twice."""
    rows = chance.randrange(1, 5)
    entries = [_tensor(spec.name, spec, rows, chance) for spec in model.inputs]
    chance.shuffle(entries)
    document: dict[str, Any] = {"inputs": entries}
    if chance.random() < 0.5:
        document["id"] = str(chance.randrange(10**6))
    if chance.random() < 0.3:
        document["parameters"] = {"binary_data_output": chance.random() < 0.7}
    if chance.random() < 0.3:
        names = [spec.name for spec in model.outputs if chance.random() < 0.6]
        document["outputs"] = [{"name": name} for name in names]
        for output in document["outputs"]:
            if chance.random() < 0.4:
                output["parameters"] = {"binary_data": chance.random() < 0.5}
    data = None
    if chance.random() < 0.5:
        data = b"".join([_packed(entry) for entry in entries if chance.random() < 0.7])
    mutations = chance.choice([0, 0, 1, 1, 2])
    for _ in range(mutations):
        _mutate(document, chance)
    request = Request("/v2/models/doubler/infer", document, data)
    request.valid = not mutations
    request.finish(chance)
    return request


def predict_request(_: Doubler, chance: random.Random) -> Request:
    """Make a request to /predict, and mutate its document up to twice."""
    rows = chance.randrange(1, 5)
    instances = [{"left": _number(chance), "right": _number(chance)} for _ in range(rows)]
    document: dict[str, Any] = {"instances": instances}
    mutations = chance.choice([0, 0, 1, 1, 2])
    for _ in range(mutations):
        _mutate(document, chance)
    request = Request("/predict", document)
    request.valid = not mutations
    request.finish(chance)
    return request


def plain(request: Request) -> bytes:
    """Return the body of a request without its compression."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "gzip":
        return gzip.decompress(request.body)
    return zlib.decompress(request.body) if encoding == "deflate" else request.body


def decode(body: bytes, json_length: str | None, key: str) -> tuple[dict[str, Any], Tensors]:
    """Read the document of a body, and the tensors that it lists under a key.

    Raises:
        Wrong: the contract does not let such a body pass.
    """
    length = len(body) if json_length is None else int(json_length)
    document = json.loads(body[:length], object_pairs_hook=_unique)
    rest = body[length:]
    tensors: Tensors = {}
    for entry in document[key]:
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if size is None:
            values = _from_json(entry)
        else:
            part, rest = rest[:size], rest[size:]
            if len(part) < size:
                raise Wrong("a tensor has too few bytes")
            values = _from_bytes(entry, part)
        if entry["name"] in tensors or any(step < 0 for step in entry["shape"]):
            raise Wrong("a tensor is there twice, or has a negative dimension")
        tensors[entry["name"]] = values.reshape(entry["shape"])
    if rest:
        raise Wrong("bytes are left after the last tensor")
    return document, tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Wrong("a key is there twice")
    return dict(pairs)


def _from_json(entry: dict[str, Any]) -> Any:
    dtype = DTYPES[entry["datatype"]]
    nested = isinstance(entry["data"][0], list) if entry["data"] else False
    flat = _flat(entry["data"], entry["shape"]) if nested else entry["data"]
    if not {type(value) for value in flat} <= PYTHON_TYPES[entry["datatype"]]:
        raise Wrong(f"data that is no {entry['datatype']}")
    if entry["datatype"] == "BYTES":
        flat = [text.encode() for text in flat]
    values = np.empty(len(flat), dtype=dtype)
    values[:] = [math.nan if value is None else value for value in flat]
    if dtype.kind == "f" and np.isinf(values).any():
        raise Wrong("a number is out of range")
    return values


def _flat(data: Any, shape: Sequence[int]) -> list[Any]:
    if not shape:
        if isinstance(data, list):
            raise Wrong("data nested deeper than its shape")
        return [data]
    if not isinstance(data, list) or len(data) != shape[0]:
        raise Wrong("data nested in another way than its shape")
    return [value for each in data for value in _flat(each, shape[1:])]


def _from_bytes(entry: dict[str, Any], part: bytes) -> Any:
    if entry["datatype"] != "BYTES":
        return np.frombuffer(part, dtype=DTYPES[entry["datatype"]])
    values = np.empty(math.prod(entry["shape"]), dtype=object)
    for place in range(len(values)):
        (count,) = struct.unpack("<I", part[:4])
        values[place], part = part[4 : 4 + count], part[4 + count :]
        if len(values[place]) < count:
            raise Wrong("a text ends too early")
    if part:
        raise Wrong("bytes are left after the last text")
    return values


def check_infer(
    request: Request, answer: httpx.Response, model: Doubler, oracle: Callable[[Tensors], Tensors]
) -> None:
    asked, inputs = decode(plain(request), request.headers.get(LENGTH), "inputs")
    for spec in model.inputs:
        if spec.datatype == "BYTES":
            inputs[spec.name] = inputs[spec.name].reshape(-1)
    expected = oracle(inputs)
    wanted = [each["name"] for each in asked.get("outputs") or []] or list(expected)
    document, outputs = decode(answer.content, answer.headers.get(LENGTH), "outputs")
    if list(outputs) != wanted:
        raise Wrong(f"outputs {list(outputs)}, asked for {wanted}")
    if asked.get("id") != document.get("id"):
        raise Wrong(f"id {document.get('id')}, asked with {asked.get('id')}")
    for entry in document["outputs"]:
        found, right = outputs[entry["name"]], expected[entry["name"]]
        if "data" in entry:  # JSON has neither NaN nor infinities
            right = (
                np.where(np.isfinite(right), right, np.nan) if right.dtype.kind == "f" else right
            )
        same = found.dtype == right.dtype and found.shape == right.shape
        if not same or not np.array_equal(found, right, equal_nan=right.dtype.kind == "f"):
            raise Wrong(f"output {entry['name']} is {found.tolist()}, right is {right.tolist()}")


def check_predict(request: Request, answer: httpx.Response, *_: Any) -> None:
    instances = json.loads(plain(request), object_pairs_hook=_unique)["instances"]
    rows = np.array([(each["left"], each["right"]) for each in instances], dtype=np.float64)
    with np.errstate(over="ignore"):
        doubled = rows.astype(np.float32) * 2
    expected = [[value if math.isfinite(value) else None for value in row] for row in doubled]
    found = [[each["left"], each["right"]] for each in answer.json()["predictions"]]
    if found != expected:
        raise Wrong(f"{found}, right is {expected}")


def check_refusal(request: Request, answer: httpx.Response) -> None:
    if answer.status_code not in REFUSALS:
        raise Wrong("such a status")
    if request.valid:
        raise Wrong(f"a valid request is refused: {answer.text[:200]}")
    content_type = answer.headers["content-type"]
    if request.path.startswith("/v2"):
        right = content_type == "application/json" and answer.json().keys() == {"error"}
    else:
        right = content_type == "application/problem+json"
        right = right and answer.json()["status"] == answer.status_code
    if not right:
        raise Wrong(f"{content_type}: {answer.text[:200]}")


async def attempt(
    model: Doubler,
    make: Callable[[Doubler, random.Random], Request],
    check: Callable[..., None],
    oracle: Callable[[Tensors], Tensors] | None,
    count: int,
    seed: int,
    main: Any,
) -> dict[str, Any]:
    """Send so many mutated requests to a service with a model, and return what came of it."""
    chance = random.Random(seed)  # noqa: S311
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            model_dir=write_model(Path(folder, "model"), model), predict_endpoint=oracle is None
        )
        async with running(main.create_app(settings, FakeRuntime(model))) as service:
            await until(lambda: service.engine.ready)

            async def send(request: Request) -> None:
                answer = await service.client.post(
                    request.path, content=request.body, headers=request.headers
                )
                statuses[answer.status_code] += 1
                try:
                    if answer.status_code == 200:
                        check(request, answer, model, oracle)
                    else:
                        check_refusal(request, answer)
                except Exception as error:
                    wrong.append(
                        f"{request.path} {request.headers} {request.body!r}: "
                        f"{answer.status_code}, {type(error).__name__}: {error}"
                    )

            for _ in range(0, count, GROUP):
                requests = [make(model, chance) for _ in range(GROUP)]
                async with asyncio.timeout(LIMIT):
                    await asyncio.gather(*map(send, requests))
    together = sum(size > 4 for size in model.batches)
    return {"statuses": statuses, "wrong": len(wrong), "first": wrong[:5], "together": together}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True, help="requests of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    errors: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage() + (record.exc_text or ""))

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as empty:
        isolate(patch, Path(empty))
        shell = import_with_stand_ins()
        shell.put_into_place(patch)
        logging.getLogger().addHandler(Collect(logging.ERROR))
        cases: dict[str, tuple[Any, ...]] = {
            "mixed": (Mixed(), infer_request, check_infer, mixed),
            "detector": (Detector(), infer_request, check_infer, detect),
            "predict": (Doubler(), predict_request, check_predict, None),
        }
        report = {
            name: asyncio.run(attempt(*case, arguments.count, arguments.seed, shell.main))
            for name, case in cases.items()
        }
    print(json.dumps({**report, "logged": errors[:5]}))


if __name__ == "__main__":
    main()
