"""Instances that your code refuses, in predict.py or in the runtime."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from managed.conftest import Serve, Start
from managed.importing import Shell
from managed.support import INFER, Doubler, ask, held, outputs, rows, until, write_model
from managed.test_refusal import REASON, WRONG, Particular, refuse
from service.core.errors import Refused
from service.core.tensors import Tensors, TensorSpec

pytestmark = pytest.mark.anyio


def instances(*values: float) -> dict[str, Any]:
    return {"instances": [{"left": value, "right": 0} for value in values]}


def listed(index: int) -> list[dict[str, str]]:
    return [{"field": f"instances.{index}.left", "reason": REASON}]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("place", ["to_tensors", "run", "to_predictions"])
async def test_refused_instance_is_a_wrong_value_with_its_place_and_reason(
    serve: Serve,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    named: bool,
) -> None:
    main, model = shell.main, Doubler()
    to_tensors, to_predictions = main.to_tensors, main.to_predictions

    def before(given: Sequence[Any]) -> Tensors:
        refuse([each.left for each in given], named=named)
        tensors: Tensors = to_tensors(given)
        return tensors

    def after(given: Tensors) -> Any:
        refuse((given["y"][:, 0] / 2).tolist(), named=named)
        return to_predictions(given)

    match place:
        case "to_tensors":
            monkeypatch.setattr(main, "to_tensors", before)
        case "to_predictions":
            monkeypatch.setattr(main, "to_predictions", after)
        case "run":
            model = Particular()
            model.named = named
    async with serve(model, predict_endpoint=True, max_batch_size=4) as service:
        for index in range(6):
            values = [float(value) for value in range(6)]
            values[index] = WRONG
            answer = await service.client.post("/predict", json=instances(*values))
            assert answer.status_code == 422, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["errors"] == listed(index)
            assert answer.json()["detail"] == "1 field did not pass validation."
        good = await service.client.post("/predict", json=instances(1, 2))
        metrics = (await service.client.get("/metrics")).text
    assert [each["left"] for each in good.json()["predictions"]] == [2, 4]
    assert 'inference_rejected_total{reason="invalid"} ' in metrics
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("named", [False, True])
async def test_place_is_that_in_the_own_request_and_neighbours_are_answered(
    serve: Serve, named: bool
) -> None:
    model = Particular()
    model.named = named
    async with serve(model, predict_endpoint=True, max_batch_size=16, warmup=False) as service:
        tasks = await held(service, model, 3)
        body = instances(1, 2, WRONG, 3)
        predict = asyncio.create_task(service.client.post("/predict", json=body))
        await until(lambda: service.engine.pending_rows == 8)
        infer = asyncio.create_task(service.client.post(INFER, json=rows(1, WRONG)))
        await until(lambda: service.engine.pending_rows == 10)
        last = asyncio.create_task(ask(service, 4))
        await until(lambda: service.engine.pending_rows == 11)
        model.gate.set()
        assert [outputs(await task) for task in (*tasks, last)] == [[200], [2], [4], [6], [8]]
        assert (await predict).json()["errors"] == listed(2)
        assert (await infer).status_code == 400
        assert (await infer).json() == {"error": f"row 1, left: {REASON}"}


async def test_model_without_batch_axis_refuses_the_only_instance(
    serve: Serve, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shell.main, "to_tensors", lambda given: {"x": np.full((3, 2), given[0].left, np.float32)}
    )
    model = Particular((TensorSpec("x", "FP32", (3, 2)),), (TensorSpec("y", "FP32", (3, 2)),))
    async with serve(model, predict_endpoint=True) as service:
        predict = await service.client.post("/predict", json=instances(WRONG))
        infer = await service.client.post(INFER, json=rows(WRONG, 1, 2))
    assert predict.status_code == 422
    assert predict.json()["errors"] == listed(0)
    assert infer.json() == {"error": f"left: {REASON}"}


async def test_other_errors_of_predict_py_are_failures(
    serve: Serve,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(given: Sequence[Any]) -> Tensors:
        shell.main.Instance(left="a secret", right=1)
        return {}

    async with serve(Doubler(), predict_endpoint=True) as service:
        monkeypatch.setattr(service.app._offered["predictor"], "_to_tensors", broken)
        answer = await service.client.post("/predict", json=instances(1))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "validation error for Instance" in caplog.text


async def test_schema_whose_example_is_refused_does_not_start(
    start: Start,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    failures: list[str],
) -> None:
    def never(given: Sequence[Any]) -> Tensors:
        raise Refused("not today", field="right")

    monkeypatch.setattr(shell.main, "to_tensors", never)
    folder = write_model(tmp_path / "doubler", Doubler())
    async with start(folder, Doubler(), predict_endpoint=True):
        await until(lambda: bool(failures))
    assert "example" in failures[0]
    assert "row 0, right: not today" in failures[0]
