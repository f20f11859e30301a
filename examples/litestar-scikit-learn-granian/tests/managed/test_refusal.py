"""Rows that a runtime refuses, and how the refused one is found."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler, ask, held, outputs, rows, until
from service.core.errors import Refused
from service.core.refusal import locate
from service.core.tensors import Tensors, TensorSpec

pytestmark = pytest.mark.anyio

WRONG = 7.0
REASON = "seven is not served"


def refuse(values: Sequence[float], *, named: bool) -> None:
    """Raise as a service's own code does, which may or may not know which instance it was."""
    wrong = [index for index, value in enumerate(values) if value == WRONG]
    if wrong:
        raise Refused(REASON, field="left", instance=wrong[0] if named else None)


class Particular(Doubler):
    """Refuses a row that begins with `WRONG`."""

    named = False

    def run(self, batch: Tensors) -> Tensors:
        answer = super().run(batch)
        refuse(batch["x"][:, 0].tolist(), named=self.named)
        return answer


@pytest.mark.parametrize("named", [False, True])
async def test_row_is_that_in_the_own_request_and_neighbours_are_answered(
    serve: Serve, named: bool
) -> None:
    model = Particular()
    model.named = named
    async with serve(model, max_batch_size=16, warmup=False) as service:
        tasks = await held(service, model, 3)
        infer = asyncio.create_task(service.client.post(INFER, json=rows(1, WRONG)))
        await until(lambda: service.engine.pending_rows == 6)
        last = asyncio.create_task(ask(service, 4))
        await until(lambda: service.engine.pending_rows == 7)
        model.gate.set()
        assert [outputs(await task) for task in (*tasks, last)] == [[200], [2], [4], [6], [8]]
        assert (await infer).status_code == 400
        assert (await infer).json() == {"error": f"row 1, left: {REASON}"}


async def test_model_without_batch_axis_refuses_the_whole_request(serve: Serve) -> None:
    model = Particular((TensorSpec("x", "FP32", (3, 2)),), (TensorSpec("y", "FP32", (3, 2)),))
    async with serve(model) as service:
        infer = await service.client.post(INFER, json=rows(WRONG, 1, 2))
    assert infer.json() == {"error": f"left: {REASON}"}


@pytest.mark.parametrize("count", [1, 2, 3, 64, 100])
@pytest.mark.parametrize("named", [False, True])
async def test_first_refused_item_is_found_in_proportion_to_their_number(
    count: int, named: bool
) -> None:
    for wrong in {0, count // 2, count - 1}:
        values = [WRONG if index >= wrong else 0.0 for index in range(count)]
        seen = 0

        def attempt(part: slice, values: list[float] = values) -> None:
            nonlocal seen
            seen += len(values[part])
            refuse(values[part], named=named)

        refused = refusal(attempt, count)
        assert (refused.instance, refused.field, str(refused.detail)) == (wrong, "left", REASON)
        assert seen <= 3 * count + 1


async def test_reason_is_that_of_the_item_that_is_named() -> None:
    def attempt(part: slice) -> None:
        raise Refused(f"it is {range(8)[part][-1]}")

    refused = refusal(attempt, 8)
    assert (refused.instance, refused.detail) == (0, "it is 0")


async def test_no_item_is_named_if_none_is_refused_by_itself() -> None:
    def attempt(part: slice) -> None:
        if len(range(8)[part]) > 2:
            raise Refused("too many")

    assert refusal(attempt, 8).instance is None


def refusal(attempt: Callable[[slice], None], count: int) -> Refused:
    try:
        attempt(slice(0, count))
    except Refused as error:
        return locate(error, count, attempt)
    raise AssertionError("nothing was refused")
