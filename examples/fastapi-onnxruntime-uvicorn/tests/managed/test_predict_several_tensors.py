"""Instances of models with several inputs and outputs, beside requests of the protocol."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from managed.conftest import Serve
from managed.support import Service
from managed.test_several_tensors import (
    OUTPUTS,
    WAYS,
    Several,
    Way,
    expected,
    inputs,
    share_batches,
)
from service.core.predictor import Predictor
from service.core.tensors import Tensors

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    number: int


class Found(BaseModel):
    doubled: float
    highest: int
    label: str


def to_tensors(items: Sequence[Item]) -> Tensors:
    return inputs([item.number for item in items])


def to_tensors_of_each(items: Sequence[Item]) -> list[Tensors]:
    return [inputs([item.number]) for item in items]


def to_predictions(outputs: Tensors) -> list[Found]:
    return [
        Found(doubled=doubled[0], highest=highest, label=label.decode())
        for doubled, highest, label in zip(
            *(outputs[spec.name].tolist() for spec in OUTPUTS), strict=True
        )
    ]


async def by_predictor(service: Service, numbers: Sequence[int], convert: Any = to_tensors) -> None:
    predictor = Predictor(service.engine, Item, convert, to_predictions)
    found = await predictor.predict([Item(number=number) for number in numbers])
    right = expected(numbers)
    assert [each.doubled for each in found] == right["doubled"][::2]
    assert [each.highest for each in found] == right["highest"]
    assert [each.label for each in found] == right["labels"]


async def by_predictor_with_tensors_of_each(service: Service, numbers: Sequence[int]) -> None:
    await by_predictor(service, numbers, to_tensors_of_each)


OF_INSTANCES: list[Way] = [by_predictor, by_predictor_with_tensors_of_each]


async def test_instances_share_batches_with_the_protocol(serve: Serve) -> None:
    await share_batches(serve, [*WAYS, *OF_INSTANCES])


@pytest.mark.parametrize("way", OF_INSTANCES)
async def test_large_requests_are_cut_and_put_together(serve: Serve, way: Way) -> None:
    model = Several()
    async with serve(model, warmup=False, max_batch_size=4) as service:
        await asyncio.gather(way(service, range(10)), way(service, range(50, 61)))
    assert max(model.batches) == 4
