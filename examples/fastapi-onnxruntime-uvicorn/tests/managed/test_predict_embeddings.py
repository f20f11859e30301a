"""``/v1/embeddings`` of models that take no texts: predict.py makes their inputs."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from managed.conftest import Start
from managed.importing import Shell
from managed.support import Doubler, Service, until, until_ready, write_model
from managed.test_embeddings import PATH, TEXTS, body
from service.core.errors import Refused
from service.core.tensors import Tensors, TensorSpec

pytestmark = pytest.mark.anyio


class Text(BaseModel):
    """A text of up to seven characters."""

    text: str = Field(alias="Text", max_length=7)
    prefix: str = ""


class Defaulted(BaseModel):
    text: str = ""


class Number(BaseModel):
    number: int


class Pair(BaseModel):
    text: str
    other: str


def length(instances: Sequence[Text]) -> Tensors:
    """Make of a text its length, twice; "no" is refused."""
    texts = [each.text for each in instances]
    if "no" in texts:
        raise Refused("is not taken", field="text")
    return {"x": np.array([[len(each)] * 2 for each in texts], np.float32)}


def length_of_each(instances: Sequence[Text]) -> list[Tensors]:
    return [length([each]) for each in instances]


async def length_later(instances: Sequence[Text]) -> Tensors:
    await asyncio.sleep(0)
    return length(instances)


class Numbers(Doubler):
    """A model whose embedding is made of numbers."""

    def __init__(self, *outputs: TensorSpec) -> None:
        super().__init__(outputs=outputs or (TensorSpec("y", "FP32", (-1, 2)),))


@pytest.fixture
def convert(start: Start, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve an embedding that takes what predict.py makes of an instance."""

    def convert(
        instance: type[BaseModel] = Text, to_tensors: Any = length, **changed: Any
    ) -> AbstractAsyncContextManager[Service]:
        monkeypatch.setattr(shell.main, "Instance", instance)
        monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
        model = Numbers()
        described = {"batch": changed.pop("batch", "always"), "task": "embedding"}
        folder = write_model(tmp_path / "numbers", model, **described)
        return start(folder, model, **{"predict_endpoint": True, **changed})

    return convert


@pytest.mark.parametrize("batch", ["always", "never"])
@pytest.mark.parametrize("to_tensors", [length, length_of_each, length_later])
async def test_predict_py_makes_the_inputs_of_a_model_that_takes_no_texts(
    to_tensors: Any, batch: str, convert: Any, failures: list[str]
) -> None:
    async with convert(to_tensors=to_tensors, batch=batch) as service:
        await until_ready(service, failures)
        answer = await service.client.post(PATH, json=body(TEXTS))
        assert answer.status_code == 200, answer.text
        found = [item["embedding"] for item in answer.json()["data"]]
        assert found == [[2 * len(text)] * 2 for text in TEXTS]
        refused = await service.client.post(PATH, json=body(["a", "no"]))
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "input.1"
        long = await service.client.post(PATH, json=body(["a", "b", "too long"]))
        assert long.status_code == 400
        assert long.json()["error"]["param"] == "input.2"
        assert "at most 7 characters" in long.json()["error"]["message"]


async def test_many_texts_are_converted_off_the_event_loop(
    convert: Any, failures: list[str]
) -> None:
    threads = set()

    def to_tensors(instances: Sequence[Text]) -> Tensors:
        threads.add(threading.current_thread())
        return length(instances)

    async with convert(to_tensors=to_tensors) as service:
        await until_ready(service, failures)
        threads.clear()
        await service.client.post(PATH, json=body(TEXTS))
        assert threads == {threading.main_thread()}
        threads.clear()
        commas = {"user": "," * 20_000}
        answer = await service.client.post(PATH, json=body(["a"] * 500, **commas))
        assert len(answer.json()["data"]) == 500
        assert threads
        assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("instance", "changed"),
    [(Defaulted, {}), (Number, {}), (Pair, {}), (Text, {"predict_endpoint": False})],
)
async def test_a_service_that_cannot_take_texts_says_what_it_needs(
    instance: type[BaseModel], changed: dict[str, bool], convert: Any, failures: list[str]
) -> None:
    async with convert(instance, **changed):
        await until(lambda: bool(failures))
    assert "one required field, a str, and SERVICE_PREDICT_ENDPOINT be true" in failures[0]
