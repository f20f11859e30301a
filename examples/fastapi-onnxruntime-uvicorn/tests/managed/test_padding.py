"""Batches that are padded: the model sees the sizes of the warm-up only, the client none of it."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from managed.conftest import Start
from managed.support import (
    INFER,
    Doubler,
    ask,
    held,
    outputs,
    rows,
    until,
    until_ready,
    write_model,
)
from service.core.errors import Refused
from service.core.manifest import Manifest
from service.core.padding import padded
from service.core.tensors import Tensors, TensorSpec

WARMED = {"max_batch_size": 12}
SIZES = {1, 2, 4, 8, 12}


@pytest.mark.anyio
async def test_a_model_that_compiles_by_shape_sees_warmed_sizes_only(
    start: Start, tmp_path: Path, failures: list[str]
) -> None:
    model = Doubler(poison=-1)
    folder = write_model(tmp_path / "doubler", model, pad_batches=True)
    async with start(folder, model, **WARMED) as service:
        await until_ready(service, failures)
        assert set(model.batches) == SIZES
        for count in (2, 3, 5, 9, 10, 20):
            tasks = await held(service, model, count)
            model.gate.set()
            answers = [outputs(await task) for task in tasks]
            assert answers == [[200], *([2 * value] for value in range(1, count + 1))]
            assert set(model.batches) <= SIZES
        assert outputs(await ask(service, *range(1, 30))) == list(range(2, 60, 2))
        model.gate.clear()
        model.batches.clear()
        first = asyncio.create_task(ask(service, 1))
        await until(lambda: model.batches == [1])
        others = [asyncio.create_task(ask(service, each)) for each in (2, model.poison, 4)]
        await until(lambda: service.engine.pending_rows == 4)
        model.gate.set()
        assert outputs(await first) == [2]
        assert [(await task).status_code for task in others] == [200, 500, 200]
        assert set(model.batches) <= SIZES
    assert set(model.batches) <= SIZES


@pytest.mark.anyio
async def test_requests_of_a_model_without_a_batch_are_not_padded(
    start: Start, tmp_path: Path, failures: list[str]
) -> None:
    class Scaled(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            return {"y": batch["x"] * batch["rate"]}

    model = Scaled(inputs=(TensorSpec("rate", "FP32", ()), TensorSpec("x", "FP32", (-1, 2))))
    folder = write_model(tmp_path / "doubler", model, pad_batches=True)
    rate = {"name": "rate", "shape": [], "datatype": "FP32", "data": [3]}
    inputs = [rate, *rows(1, 2, 6)["inputs"]]
    async with start(folder, model, **WARMED) as service:
        await until_ready(service, failures)
        assert outputs(await service.client.post(INFER, json={"inputs": inputs})) == [3, 6, 18]


def test_the_last_row_is_repeated() -> None:
    seen: list[Any] = []

    def run(batch: Tensors) -> Tensors:
        seen.append({name: array.tolist() for name, array in batch.items()})
        return {"y": batch["x"] * 2}

    batch = {"x": np.arange(3), "text": np.array([b"a", b"b", None], dtype=object)}
    assert padded(run, 4)(batch)["y"].tolist() == [0, 2, 4]
    assert padded(run, 2)(batch)["y"].tolist() == [0, 2, 4]
    assert seen == [
        {"x": [0, 1, 2, 2], "text": [b"a", b"b", None, None]},
        {"x": [0, 1, 2], "text": [b"a", b"b", None]},
    ]


def test_a_row_that_the_model_owes_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="does not have 4 rows"):
        padded(lambda batch: {"y": batch["x"][:3]}, 4)({"x": np.arange(3)})


def test_a_refusal_names_a_row_of_the_request() -> None:
    def run(batch: Tensors) -> Tensors:
        raise Refused("too large", instance=3)

    with pytest.raises(Refused) as refusal:
        padded(run, 4)({"x": np.arange(3)})
    assert refusal.value.instance == 2


def test_a_manifest_cannot_pad_what_never_shares_a_batch(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    never = text.replace('"auto"', '"never"')
    assert not Manifest.model_validate_json(never).pad_batches
    with pytest.raises(ValueError, match="no batches to pad, 'batch' is 'never'"):
        Manifest.model_validate_json(never.replace('"pad_batches": false', '"pad_batches": true'))
