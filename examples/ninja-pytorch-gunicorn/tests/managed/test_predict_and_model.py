"""/predict and the engine: models that fail, refuse or end, keys, metrics, a second start."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from managed.conftest import Serve, Start
from managed.importing import Shell
from managed.support import (
    Doubler,
    FakeRuntime,
    held,
    outputs,
    running,
    until,
    write_model,
)
from managed.test_dying_model import ENDINGS, ENOUGH
from service.core.errors import InvalidTensors
from service.core.tensors import Tensors, TensorSpec
from service.ops.settings import Settings

pytestmark = pytest.mark.anyio

INSTANCE = {"left": 1, "right": 2}
KEY = "a-key-that-is-long-enough"


async def test_model_that_predict_py_does_not_describe_is_refused(
    start: Start, tmp_path: Path, failures: list[str]
) -> None:
    model = Doubler(inputs=(TensorSpec("x", "FP32", (-1, 3)),))
    folder = write_model(tmp_path / "doubler", model)
    async with start(folder, model, predict_endpoint=True) as service:
        await until(lambda: bool(failures))
        assert not service.engine.ready
    (failure,) = failures
    assert "SERVICE_PREDICT_ENDPOINT" in failure
    assert "\n" not in failure


async def test_model_that_fails_on_the_examples_of_predict_py_is_refused(
    start: Start, folder: Path, failures: list[str]
) -> None:
    async with start(folder, Doubler(poison=1.5), predict_endpoint=True) as service:
        await until(lambda: bool(failures))
        assert not service.engine.ready
    assert "the model fails on the examples of predict.py" in failures[0]


async def test_application_predicts_after_it_was_started_again(shell: Shell, folder: Path) -> None:
    app = shell.main.create_app(Settings(model_dir=folder), FakeRuntime(Doubler()))
    for _ in range(2):
        async with running(app) as service:
            await until(lambda: app.engine.ready)
            answer = await service.client.post("/predict", json={"instances": [INSTANCE]})
            assert answer.json()["predictions"] == [{"left": 2, "right": 4}]


async def test_instances_of_a_model_without_a_batch_run_one_by_one(serve: Serve) -> None:
    class Centred(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            (x,) = batch.values()
            self.batches.append(len(x))
            return {"y": x - x.mean(axis=0) + x[:, ::-1]}

    model = Centred()
    instances = [{"left": 1, "right": 2}, {"left": 3, "right": 5}]
    async with serve(model, predict_endpoint=True) as service:
        answer = await service.client.post("/predict", json={"instances": instances})
    assert answer.json()["predictions"] == [{"left": 2, "right": 1}, {"left": 5, "right": 3}]
    assert model.batches == [1, 1]


@pytest.mark.parametrize("ending", ENDINGS[:3], ids=repr)
@pytest.mark.parametrize("place", ["to_tensors", "to_predictions"])
async def test_conversion_that_ends_itself_fails_one_request(
    serve: Serve,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    failures: list[str],
    place: str,
    ending: BaseException,
) -> None:
    convert = getattr(shell.main, place)

    def mortal(given: Any) -> Any:
        values: Sequence[float] = (
            [each.left for each in given] if place == "to_tensors" else (given["y"] / 2).flat
        )
        if ENOUGH in values:
            raise ending
        return convert(given)

    monkeypatch.setattr(shell.main, place, mortal)
    async with serve(Doubler(), predict_endpoint=True) as service:
        answers = [
            await service.client.post("/predict", json={"instances": [{"left": left, "right": 1}]})
            for left in (ENOUGH, 1)
        ]
        assert service.engine.ready
    assert [answer.status_code for answer in answers] == [500, 200]
    assert failures == []


async def test_instance_whose_values_the_model_refuses_gets_the_reason(serve: Serve) -> None:
    class Particular(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            if (batch["x"] == 7).any():
                raise InvalidTensors("x: 7 is not lucky")
            return super().run(batch)

    model = Particular()
    async with serve(model, predict_endpoint=True, warmup=False) as service:
        tasks = await held(service, model, 3)
        instances = {"instances": [{"left": 7, "right": 7}]}
        predict = asyncio.create_task(service.client.post("/predict", json=instances))
        await until(lambda: service.engine.pending_rows == 5)
        model.gate.set()
        assert [outputs(await task) for task in tasks] == [[200], [2], [4], [6]]
        assert (await predict).status_code == 422
        assert (await predict).json()["detail"] == "x: 7 is not lucky"


async def test_what_the_model_says_is_logged_and_not_sent(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    model = Doubler()
    async with serve(model, predict_endpoint=True) as service:
        instance = {"left": model.poison, "right": 0}
        answer = await service.client.post("/predict", json={"instances": [instance]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "a secret that must not leave the service" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("GET", "/predict"), ("POST", "/predict/")]
)
async def test_it_needs_a_key(serve: Serve, method: str, path: str) -> None:
    async with serve(Doubler(), predict_endpoint=True, api_keys=KEY) as service:
        refused = await service.client.request(method, path)
        known = await service.client.request(method, path, headers={"x-api-key": KEY})
        document = (await service.client.get("/openapi.json")).json()
    assert (refused.status_code, known.status_code == 401) == (401, False)
    assert "401" in document["paths"]["/predict"]["post"]["responses"]


async def test_it_is_counted_by_its_route(serve: Serve) -> None:
    async with serve(Doubler(), predict_endpoint=True) as service:
        before = (await service.client.get("/metrics")).text
        await service.client.post("/predict", json={"instances": [INSTANCE] * 2})
        after = (await service.client.get("/metrics")).text
    for sample, growth in (
        ('http_requests_total{method="POST",route="/predict",status="200"}', 1),
        ('inference_batch_rows_sum{model="doubler",version="1"}', 2),
    ):
        assert value(after, sample) - value(before, sample) == growth, sample


def value(page: str, sample: str) -> float:
    """Return the value of a sample, 0 if the page does not have it."""
    lines = [line for line in page.splitlines() if line.startswith(f"{sample} ")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0
