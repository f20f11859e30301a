"""Texts of like length run together, if the model pads them to the longest."""

import asyncio
from typing import Any

import numpy as np
import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler, Service, until
from service.core.errors import Refused
from service.core.tensors import Signature, Tensors, TensorSpec
from service.core.text_lengths import length_classes

pytestmark = pytest.mark.anyio


class Counter(Doubler):
    """A model that counts the bytes of texts, and refuses texts of 77. ``ran``: the counts."""

    def __init__(self, *, pads_texts: bool) -> None:
        super().__init__(
            (TensorSpec("text", "BYTES", (-1,)),),
            (TensorSpec("length", "INT64", (-1,)),),
            Signature((), (), pads_texts=pads_texts),
        )
        self.ran: list[list[int]] = []

    def run(self, batch: Tensors) -> Tensors:
        lengths = [len(text) for text in batch["text"]]
        self.batches.append(len(lengths))
        self.ran.append(lengths)
        assert self.gate.wait(timeout=20)
        if 77 in lengths:
            raise Refused("is unlucky", field="text")
        return {"length": np.array(lengths)}


async def ask(service: Service, *lengths: int) -> Any:
    texts = ["x" * length for length in lengths]
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    answer = await service.client.post(INFER, json={"inputs": [tensor]})
    body = answer.json()
    return body["outputs"][0]["data"] if answer.status_code == 200 else body["error"]


async def held(
    service: Service, model: Counter, *requests: tuple[int, ...]
) -> list["asyncio.Task[Any]"]:
    """Hold the model on a text of no length, and queue others behind it."""
    model.gate.clear()
    model.batches.clear()
    first = asyncio.create_task(ask(service, 0))
    await until(lambda: model.batches == [1])
    tasks = [asyncio.create_task(ask(service, *lengths)) for lengths in requests]
    await until(lambda: service.engine.pending_rows == 1 + sum(map(len, requests)))
    model.ran.clear()
    return [first, *tasks]


async def test_requests_with_texts_of_like_length_share_a_batch(serve: Serve) -> None:
    model = Counter(pads_texts=True)
    lengths = [5, 2000, 60, 150, 1100, 20, 140]
    async with serve(model, warmup=False) as service:
        tasks = await held(service, model, *((length,) for length in lengths))
        model.gate.set()
        answers = [await task for task in tasks]
    assert answers == [[0], *([length] for length in lengths)]
    assert sorted(map(sorted, model.ran)) == [[5, 20, 60], [140, 150], [1100, 2000]]


async def test_texts_of_one_request_run_apart_and_are_answered_in_order(serve: Serve) -> None:
    model = Counter(pads_texts=True)
    lengths = (5, 2000, 60, 150, 1100, 20, 140, 1)
    async with serve(model, warmup=False, max_batch_size=3) as service:
        tasks = await held(service, model, lengths)
        model.gate.set()
        assert [await task for task in tasks] == [[0], list(lengths)]
    assert model.ran == [[5, 60, 20], [150, 140], [2000, 1100], [1]]


async def test_a_refused_text_is_named_by_its_place_in_the_request(serve: Serve) -> None:
    model = Counter(pads_texts=True)
    async with serve(model, warmup=False, max_batch_size=3) as service:
        error = await ask(service, 900, 100, 5, 200, 6, 7, 8, 77, 700)
    assert error == "row 7, text: is unlucky"


async def test_models_that_pad_nothing_get_what_waits(serve: Serve) -> None:
    model = Counter(pads_texts=False)
    async with serve(model, warmup=False) as service:
        tasks = await held(service, model, (5,), (2000,), (150,))
        model.gate.set()
        await asyncio.gather(*tasks)
    assert model.ran == [[5, 2000, 150]]


def test_the_longest_text_of_a_row_decides() -> None:
    texts = np.array([[b"", b"x" * 100], [b"x" * 90, None], [b"x" * 63, b"x"]], dtype=object)
    rates = np.array([1e9, 0, 0], dtype=np.float32)
    first, second, third = length_classes({"rate": rates, "text": texts}).tolist()
    assert first == second > third
    assert length_classes({"text": np.empty((2, 0), dtype=object)}).tolist() == [third, third]
