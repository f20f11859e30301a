"""Instances of different shapes in one request: `to_tensors` returns the tensors of each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from managed.support import Doubler, FakeRuntime, write_model
from service.core.engine import Engine
from service.core.errors import InferenceFailed, InvalidTensors, Refused
from service.core.predictor import Predictor
from service.core.tensors import Tensors, TensorSpec
from service.ops.settings import Settings

pytestmark = pytest.mark.anyio


class Series(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"values": [1]}, {"values": [1, 2]}]})

    values: list[float]


class Sum(BaseModel):
    value: float


class Adder(Doubler):
    """A model that adds each row, whatever its length; it refuses 13."""

    def __init__(self) -> None:
        super().__init__((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1,)),))

    def run(self, batch: Tensors) -> Tensors:
        self.batches.append(len(batch["x"]))
        for row, values in enumerate(batch["x"]):
            if 13 in values:
                raise Refused("13 is not taken", field="values", instance=row)
        return {"y": batch["x"].sum(axis=1)}


def to_tensors(instances: Sequence[Series]) -> list[Tensors]:
    return [{"x": np.array([each.values], dtype=np.float32)} for each in instances]


def to_predictions(outputs: Tensors) -> list[Sum]:
    sums = outputs["y"].tolist()
    if 99 in sums:
        raise Refused("99 is not answered")
    return [Sum(value=value) for value in sums]


@asynccontextmanager
async def predicting(
    model: Adder, folder: Path, predictor_type: type[Predictor[Series, Sum]] = Predictor
) -> AsyncIterator[Predictor[Series, Sum]]:
    settings = Settings(model_dir=write_model(folder, model), max_batch_size=64)
    engine = Engine(settings, FakeRuntime(model))
    predictor = predictor_type(engine, Series, to_tensors, to_predictions)
    await engine.start(predictor.examples_for)
    model.batches.clear()
    yield predictor
    await engine.close()


def series(*values: list[float]) -> list[Series]:
    return [Series(values=each) for each in values]


async def test_those_of_one_shape_run_together_and_answers_keep_their_order(
    tmp_path: Path,
) -> None:
    model = Adder()
    async with predicting(model, tmp_path / "model") as predictor:
        found = await predictor.predict(series([1, 2], [3], [4, 5], [6, 7, 8], [9], [10, 11]))
    assert [each.value for each in found] == [3, 3, 9, 21, 9, 21]
    assert model.batches == [3, 2, 1]


async def test_without_a_batch_each_runs_alone(tmp_path: Path) -> None:
    class Position(Adder):
        """A model whose answers depend on the place in the batch."""

        def run(self, batch: Tensors) -> Tensors:
            (y,) = super().run(batch).values()
            return {"y": y + np.arange(len(y), dtype=np.float32)}

    model = Position()
    async with predicting(model, tmp_path / "model") as predictor:
        found = await predictor.predict(series([1, 2], [3, 4], [5]))
        with pytest.raises(Refused) as refused:
            await predictor.predict(series([1, 2], [13, 4], [5]))
    assert [each.value for each in found] == [3, 7, 5]
    assert refused.value.instance == 1


@pytest.mark.parametrize(
    ("values", "instance"),
    [
        ([[1, 2], [3], [4, 13]], 2),
        ([[1, 2], [13], [4, 5]], 1),
        ([[99], [3, 4]], 0),
        ([[3, 4], [5], [1, 98]], 2),
    ],
    ids=["by the model", "alone in its group", "by to_predictions", "in a group"],
)
async def test_a_refused_instance_is_named(
    tmp_path: Path, values: list[list[float]], instance: int
) -> None:
    async with predicting(Adder(), tmp_path / "model") as predictor:
        with pytest.raises(Refused) as refused:
            await predictor.predict(series(*values))
    assert refused.value.instance == instance


async def test_an_instance_may_have_several_rows(tmp_path: Path) -> None:
    def windows(instances: Sequence[Series]) -> list[Tensors]:
        return [{"x": np.array(each.values, dtype=np.float32).reshape(-1, 2)} for each in instances]

    def add(outputs: Tensors) -> list[Sum]:
        return [Sum(value=float(outputs["y"].sum()))]

    model = Adder()
    async with predicting(model, tmp_path / "model") as predictor:
        of_windows = Predictor(predictor._engine, Series, windows, add)
        found = await of_windows.predict(series([1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11, 12]))
        with pytest.raises(Refused) as refused:
            await of_windows.predict(series([1, 2, 3, 4], [5, 6], [7, 8, 9, 13]))
    assert [each.value for each in found] == [10, 11, 57]
    assert model.batches[0] == 6
    assert refused.value.instance == 2


async def test_another_number_of_tensors_or_predictions_is_an_error(tmp_path: Path) -> None:
    async with predicting(Adder(), tmp_path / "model") as predictor:
        engine = predictor._engine
        short = Predictor(engine, Series, lambda given: to_tensors(given)[1:], to_predictions)
        twice = Predictor(engine, Series, to_tensors, lambda made: to_predictions(made) * 2)
        for wrong in (short, twice):
            with pytest.raises(InferenceFailed):
                await wrong.predict(series([1, 2], [3, 4]))


async def test_examples_are_checked_one_by_one(tmp_path: Path) -> None:
    engine = Engine(Settings(model_dir=tmp_path), FakeRuntime(Adder()))
    predictor = Predictor(engine, Series, to_tensors, to_predictions)
    found = await predictor.examples_for(Adder().inputs)
    assert found is not None
    assert found.rows["x"].tolist() == [[1]]
    with pytest.raises(InvalidTensors, match="disagree"):
        await predictor.examples_for((TensorSpec("x", "FP32", (-1, 1)),))
