"""Models with several inputs and outputs: each row of a request stays with the others of its own.

Every row has a number that all of its inputs carry and all of its outputs give back.
"""

import asyncio
import itertools
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from managed.conftest import Serve
from managed.support import Doubler, Service, until
from service.core.errors import InferenceFailed, InvalidTensors
from service.core.tensors import DTYPES, Array, Tensors, TensorSpec

pytestmark = pytest.mark.anyio

INFER = "/v2/models/doubler/infer"
LENGTH = "Inference-Header-Content-Length"
LARGE = 2**53
"""The first whole number whose successor is not an FP64."""
INPUTS = (
    TensorSpec("values", "FP32", (-1, -1)),
    TensorSpec("keys", "INT64", (-1, -1)),
    TensorSpec("names", "BYTES", (-1,)),
)
OUTPUTS = (
    TensorSpec("doubled", "FP32", (-1, -1)),
    TensorSpec("highest", "INT64", (-1,)),
    TensorSpec("labels", "BYTES", (-1,)),
)


class Several(Doubler):
    """A model that answers to each of three inputs with one of three outputs."""

    def __init__(self) -> None:
        super().__init__(INPUTS, OUTPUTS)

    def run(self, batch: Tensors) -> Tensors:
        self.batches.append(len(batch["values"]))
        if not self.gate.wait(timeout=20):
            raise TimeoutError("no test opened the gate")
        keys = batch["keys"].max(axis=1)
        labels = [name + b"/%d" % key for name, key in zip(batch["names"], keys, strict=True)]
        return {
            "labels": np.array([*labels, None], dtype=object)[:-1],
            "highest": keys,
            "doubled": batch["values"] * 2,
        }


def inputs(numbers: Sequence[int]) -> Tensors:
    return {
        "values": np.array([(number, -number) for number in numbers], dtype=np.float32),
        "keys": np.array([(LARGE + number, number) for number in numbers], dtype=np.int64),
        "names": np.array([b"row %d" % number for number in numbers], dtype=object),
    }


def expected(numbers: Sequence[int]) -> dict[str, list[Any]]:
    return {
        "doubled": [part for number in numbers for part in (2 * number, -2 * number)],
        "highest": [LARGE + number for number in numbers],
        "labels": [f"row {number}/{LARGE + number}" for number in numbers],
    }


def pack(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(text)) + text for text in array)


def unpack(datatype: str, buffer: bytes) -> list[Any]:
    if datatype != "BYTES":
        numbers: list[Any] = np.frombuffer(buffer, DTYPES[datatype]).tolist()
        return numbers
    texts = []
    while buffer:
        (length,) = struct.unpack_from("<I", buffer)
        texts.append(buffer[4 : 4 + length].decode())
        buffer = buffer[4 + length :]
    return texts


async def ask(
    service: Service,
    tensors: Tensors,
    *,
    order: Sequence[str],
    binary: Sequence[str] = (),
    wanted: Sequence[str] = (),
    binary_wanted: bool = False,
    path: str = INFER,
) -> dict[str, list[Any]]:
    """Send inputs in an order, some of them binary, and return the outputs in theirs.

    ``wanted``: the outputs to ask for; without any, all come.
    """
    specs = {spec.name: spec for spec in INPUTS}
    entries, buffers = [], []
    for name in order:
        array = tensors[name]
        entry: dict[str, Any] = {
            "name": name,
            "datatype": specs[name].datatype,
            "shape": array.shape,
        }
        if name in binary:
            buffers.append(pack(array))
            entry["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            flat = array.ravel().tolist()
            entry["data"] = [each.decode() if isinstance(each, bytes) else each for each in flat]
        entries.append(entry)
    document: dict[str, Any] = {
        "inputs": entries,
        "parameters": {"binary_data_output": binary_wanted},
    }
    if wanted:
        document["outputs"] = [{"name": name} for name in wanted]
    header = json.dumps(document).encode()
    answer = await service.client.post(
        path, content=b"".join([header, *buffers]), headers={LENGTH: str(len(header))}
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    rest = answer.content[length:]
    found = {}
    for output in json.loads(answer.content[:length])["outputs"]:
        if binary_wanted:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = unpack(output["datatype"], rest[:size])
            rest = rest[size:]
        else:
            found[output["name"]] = output["data"]
    assert rest == b""
    return found


async def test_texts_may_be_a_column_behind_inputs_of_numbers(serve: Serve) -> None:
    tensors = inputs([1, 2])
    column = {**tensors, "names": tensors["names"][:, np.newaxis]}
    async with serve(Several()) as service:
        assert await ask(service, column, order=("values", "keys", "names")) == expected([1, 2])


@pytest.mark.parametrize("order", [*itertools.permutations(("values", "keys", "names"))])
@pytest.mark.parametrize("binary", [(), ("values", "keys", "names"), ("keys",)])
async def test_inputs_in_any_order(
    serve: Serve, order: Sequence[str], binary: Sequence[str]
) -> None:
    async with serve(Several()) as service:
        found = await ask(service, inputs([1, 2, 3]), order=order, binary=binary)
    assert found == expected([1, 2, 3])
    assert list(found) == [spec.name for spec in OUTPUTS]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "wanted", [("labels", "doubled"), ("doubled", "labels"), ("highest",), ("labels", "highest")]
)
async def test_outputs_are_those_that_were_asked_for_in_their_order(
    serve: Serve, wanted: Sequence[str], binary: bool
) -> None:
    async with serve(Several()) as service:
        found = await ask(
            service,
            inputs([7, 8]),
            order=("keys", "names", "values"),
            wanted=wanted,
            binary_wanted=binary,
        )
    assert list(found) == list(wanted)
    assert found == {name: expected([7, 8])[name] for name in wanted}


async def by_json(service: Service, numbers: Sequence[int]) -> None:
    found = await ask(service, inputs(numbers), order=("names", "values", "keys"))
    assert found == expected(numbers)


async def by_binary(service: Service, numbers: Sequence[int]) -> None:
    order = ("keys", "names", "values")
    path = "/v2/models/doubler/versions/1/infer"
    found = await ask(
        service, inputs(numbers), order=order, binary=order, binary_wanted=True, path=path
    )
    assert found == expected(numbers)


async def by_engine(service: Service, numbers: Sequence[int]) -> None:
    outputs = await service.engine.infer(inputs(numbers))
    found = {name: array.ravel().tolist() for name, array in outputs.items()}
    found["labels"] = [label.decode() for label in found["labels"]]
    assert found == expected(numbers)


Way = Callable[[Service, Sequence[int]], Awaitable[None]]
WAYS: list[Way] = [by_json, by_binary, by_engine]


async def gathered(
    service: Service, model: Several, requests: Sequence[Awaitable[Any]], rows: int
) -> AsyncIterator[Any]:
    """Let requests wait behind another, so that they share batches, and yield what they give."""
    model.gate.clear()
    model.batches.clear()
    first = asyncio.create_task(by_engine(service, [100]))
    await until(lambda: model.batches == [1])
    tasks = [asyncio.ensure_future(request) for request in requests]
    await until(lambda: service.engine.queued_rows == rows)
    model.gate.set()
    await first
    for task in tasks:
        yield await task


async def test_requests_of_all_ways_share_batches_and_nothing_else(serve: Serve) -> None:
    await share_batches(serve, WAYS)


async def share_batches(serve: Serve, ways: Sequence[Way]) -> None:
    """Send requests of several sizes in all ways at a time."""
    model = Several()
    async with serve(model, warmup=False) as service:
        assert service.engine.batched
        number = 0
        requests = []
        for size, way in itertools.product((1, 2, 3), ways):
            requests.append(way(service, range(number, number + size)))
            number += size
        assert [each async for each in gathered(service, model, requests, number)]
    assert len(model.batches) < 1 + len(requests) // 2


@pytest.mark.parametrize("way", WAYS)
async def test_large_requests_are_cut_and_put_together(serve: Serve, way: Way) -> None:
    model = Several()
    async with serve(model, warmup=False, max_batch_size=4) as service:
        await asyncio.gather(way(service, range(10)), way(service, range(50, 61)))
    assert max(model.batches) == 4


@pytest.mark.parametrize("name", ["values", "keys"])
async def test_rows_of_other_lengths_run_apart_whichever_input_has_them(
    serve: Serve, name: str
) -> None:
    def ask_in(service: Service, number: int) -> Awaitable[Tensors]:
        tensors = inputs([number])
        return service.engine.infer({**tensors, name: tensors[name][:, : 1 + number % 2]})

    model = Several()
    async with serve(model, warmup=False) as service:
        requests = [ask_in(service, number) for number in range(6)]
        answers = [each async for each in gathered(service, model, requests, 6)]
    assert [each["highest"].tolist() for each in answers] == [[LARGE + each] for each in range(6)]
    assert model.batches == [1, 3, 3]


@pytest.mark.parametrize("short", [spec.name for spec in OUTPUTS])
async def test_every_output_must_have_every_row(serve: Serve, short: str) -> None:
    class Short(Several):
        def run(self, batch: Tensors) -> Tensors:
            outputs = super().run(batch)
            if 13 in batch["values"]:
                outputs[short] = outputs[short][:-1]
            return outputs

    async with serve(Short(), warmup=False) as service:
        with pytest.raises(InferenceFailed):
            await service.engine.infer(inputs([1, 13]))
        await by_engine(service, [1, 2])


@pytest.mark.parametrize("name", [spec.name for spec in INPUTS])
async def test_every_input_is_needed_and_has_as_many_rows(serve: Serve, name: str) -> None:
    async with serve(Several()) as service:
        with pytest.raises(InvalidTensors, match="disagree in their number of rows"):
            await service.engine.infer({**inputs([1, 2]), name: inputs([1])[name]})
        tensors = inputs([1, 2])
        surplus = {**tensors, f"{name}s": tensors[name]}
        with pytest.raises(InvalidTensors, match=f"no input '{name}s'"):
            await service.engine.infer(surplus)
        del tensors[name]
        with pytest.raises(InvalidTensors, match=f"'{name}' is missing"):
            await service.engine.infer(tensors)
