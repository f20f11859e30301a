"""A model that hangs, or raises what would end an event loop: SystemExit, or a panic of Rust."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from managed.conftest import Serve, Start
from managed.support import ONE_ROW_A_BATCH, Doubler, ask, held, outputs, until
from service.core.tensors import Tensors

pytestmark = pytest.mark.anyio

ENOUGH = 5.0


class PanicException(BaseException):
    """What PyO3 raises for a panic of Rust."""


ENDINGS = [SystemExit(0), SystemExit("no licence"), PanicException("index"), KeyboardInterrupt()]


class Mortal(Doubler):
    """Raises ``ending`` on a row that begins with `ENOUGH`."""

    ending: BaseException = SystemExit(0)

    def run(self, batch: Tensors) -> Tensors:
        answer = super().run(batch)
        if (batch["x"] == ENOUGH).any():
            raise self.ending
        return answer


@pytest.mark.parametrize("ending", ENDINGS, ids=repr)
async def test_model_that_ends_itself_is_not_called_again_and_the_process_ends(
    serve: Serve, failures: list[str], caplog: pytest.LogCaptureFixture, ending: BaseException
) -> None:
    model = Mortal()
    model.ending = ending
    async with serve(model, **ONE_ROW_A_BATCH) as service:
        first, *_ = await held(service, model, 0)
        culprit = asyncio.create_task(ask(service, ENOUGH))
        waiting = asyncio.create_task(ask(service, 1))
        await until(lambda: service.engine.pending_rows == 3)
        model.gate.set()
        assert outputs(await first) == [200]
        assert (await culprit).status_code == 500
        assert_unavailable(await waiting)
        assert_unavailable(await ask(service, 2))
        assert model.batches == [1, 1]
        probes = [await service.client.get(f"/v2/health/{probe}") for probe in ("live", "ready")]
        assert [probe.status_code for probe in probes] == [200, 503]
        await asyncio.sleep(0.15)
        metrics = (await service.client.get("/metrics")).text
    text = f"{type(ending).__name__}: {ending}".rstrip(": ")
    assert failures == [f"the model ended with {text}"], "once"
    assert "inference_ready_workers 0.0" in metrics
    assert "raise self.ending" in caplog.text, "where"


@pytest.mark.parametrize(
    ("values", "statuses", "batches"),
    [
        ((1, 2, Doubler.poison, ENOUGH), [200, 200, 500, 500], [4, 2, 2, 1, 1]),
        ((Doubler.poison, ENOUGH, 1, 2), [500, 500, 500, 500], [4, 2, 1, 1]),
    ],
    ids=["last", "first"],
)
async def test_batch_that_was_halved_ends_with_the_model(
    serve: Serve,
    failures: list[str],
    values: Sequence[float],
    statuses: list[int],
    batches: list[int],
) -> None:
    """What ran before is answered, nothing is run again, and nobody waits for ever."""
    model = Mortal()
    async with serve(model, warmup=False) as service:
        tasks = await held(service, model, 0)
        tasks += [asyncio.create_task(ask(service, value)) for value in values]
        await until(lambda: service.engine.pending_rows == 5)
        model.gate.set()
        with anyio.fail_after(10):
            answered = [(await task).status_code for task in tasks]
    assert answered == [200, *statuses]
    assert model.batches == [1, *batches]
    assert len(failures) == 1


async def test_model_that_hangs_is_found_and_the_process_ends(
    serve: Serve, failures: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    forever = threading.Event()

    class Hanging(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            if (batch["x"] == ENOUGH).any():
                forever.wait(20)
                raise SystemExit(0)
            return super().run(batch)

    async with serve(Hanging(), request_timeout=0.1, run_timeout=0.3) as service:
        assert (await ask(service, ENOUGH, ENOUGH)).status_code == 504
        assert (await service.client.get("/v2/health/ready")).status_code == 200
        await until(lambda: bool(failures))
        assert_unavailable(await ask(service, 1))
        assert (await service.client.get("/v2/health/live")).status_code == 200
        assert (await service.client.get("/v2/health/ready")).status_code == 503
        with anyio.fail_after(5):
            await service.engine.close()
        forever.set()
        await asyncio.sleep(0.1)
    assert failures == ["the model hangs since 0 s with a batch of 2 rows"], "once"
    assert "forever.wait(20)" in caplog.text, "where"


async def test_slow_batches_one_after_the_other_and_idle_times_are_no_hang(
    serve: Serve, failures: list[str]
) -> None:
    slow = threading.Event()

    class Slow(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            if slow.is_set():
                time.sleep(0.15)
            return super().run(batch)

    limits: dict[str, Any] = {"request_timeout": 0.4, "run_timeout": 0.4, **ONE_ROW_A_BATCH}
    async with serve(Slow(), warmup=False, **limits) as service:
        slow.set()
        await asyncio.gather(*(ask(service, value) for value in range(1, 6)))
        await asyncio.sleep(0.6)
        assert outputs(await ask(service, 1)) == [2]
    assert failures == []


@pytest.mark.parametrize("ending", ENDINGS, ids=repr)
async def test_model_that_ends_itself_at_warm_up_does_not_start(
    start: Start, folder: Path, failures: list[str], ending: BaseException
) -> None:
    class Stillborn(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            raise ending

    async with start(folder, Stillborn()) as service:
        await until(lambda: bool(failures))
        assert not service.engine.ready
    assert f"the model ended with {type(ending).__name__}" in failures[0]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
