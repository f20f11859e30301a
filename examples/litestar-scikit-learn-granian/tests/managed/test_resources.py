"""The resources of predict.py, and a `to_tensors` that waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from managed.conftest import Serve, Start
from managed.importing import Shell
from managed.support import Doubler, ask, outputs, until, write_model
from service.core.errors import DeadlineExceeded, NotReady, Refused, RequestCancelled
from service.core.predictor import Predictor
from service.core.request_context import RequestContext
from service.core.resources import Resources
from service.core.tensors import Tensors

pytestmark = pytest.mark.anyio


class Store:
    """A feature store with a number for each number, and a record of what became of it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Store"]:
        async with anyio.create_task_group():  # only its own task may leave it
            self.events.append("opened")
            try:
                yield self
            finally:
                self.events.append("closed")

    async def look_up(self, key: float) -> float:
        self.waiting += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        finally:
            self.waiting -= 1
        if key == 7:
            raise Refused("seven is not in the store", field="left")
        if key == 8:
            raise OSError("a secret that must not leave the service")
        if key == 9:
            raise asyncio.CancelledError
        return key / 2


async def looked_up(instances: Sequence[Any], store: Store) -> Tensors:
    store.events.append("asked")
    left = [await store.look_up(each.left) for each in instances]
    return {"x": np.array([(each, 0) for each in left], dtype=np.float32)}


def converted(instances: Sequence[Any], store: Store) -> Tensors:
    store.events.append("asked")
    return {"x": np.array([(each.left / 2, 0) for each in instances], dtype=np.float32)}


Use = Callable[..., Store]


@pytest.fixture
def use(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Give predict.py a store and a `to_tensors` that gets it."""

    def use(to_tensors: Callable[..., Any] = looked_up, resources: Any = None) -> Store:
        store = Store()
        predict = shell.modules["predict"]
        monkeypatch.setattr(predict, "resources", resources or store.open, raising=False)
        monkeypatch.setattr(shell.main, "to_tensors", to_tensors)
        return store

    return use


async def post(client: httpx.AsyncClient, *values: float, **headers: str) -> httpx.Response:
    instances = [{"left": value, "right": 0} for value in values]
    return await client.post("/predict", json={"instances": instances}, headers=headers)


def left(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [each["left"] for each in answer.json()["predictions"]]


@pytest.mark.parametrize("to_tensors", [looked_up, converted])
async def test_resources_are_open_from_the_examples_to_the_last_request(
    serve: Serve, use: Use, failures: list[str], to_tensors: Callable[..., Any]
) -> None:
    store = use(to_tensors)
    async with serve(Doubler(), predict_endpoint=True) as service:
        assert store.events == ["opened", "asked"]
        assert left(await post(service.client, 1, 2, 3)) == [1, 2, 3]
    assert store.events == ["opened", "asked", "asked", "closed"]
    assert failures == []


async def test_they_are_closed_after_the_last_batch(serve: Serve, use: Use, shell: Shell) -> None:
    class Recorder(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            answer = super().run(batch)
            store.events.append("ran")
            return answer

    store, model = use(), Recorder()
    async with serve(model, predict_endpoint=True) as service:
        model.gate.clear()
        instance = shell.main.Instance(left=1, right=0)
        task = asyncio.create_task(service.app._offered["predictor"].predict([instance]))
        await until(lambda: service.engine.pending_rows == 1)
        asyncio.get_running_loop().call_later(0.05, model.gate.set)
    await task
    assert store.events[-2:] == ["ran", "closed"]


async def test_requests_wait_beside_each_other(serve: Serve, use: Use) -> None:
    store = use()
    async with serve(Doubler(), predict_endpoint=True) as service:
        store.gate.clear()
        tasks = [asyncio.create_task(post(service.client, value)) for value in range(1, 6)]
        many = asyncio.create_task(post(service.client, *([1] * 1000)))
        await until(lambda: store.waiting == len(tasks) + 1)
        store.gate.set()
        assert [left(await task) for task in tasks] == [[1], [2], [3], [4], [5]]
        assert left(await many) == [1] * 1000


async def test_deadline_ends_what_is_awaited(serve: Serve, use: Use) -> None:
    store = use()
    async with serve(Doubler(), predict_endpoint=True) as service:
        store.gate.clear()
        answer = await post(service.client, 1, **{"request-timeout": "0.05"})
        assert answer.status_code == 504
        assert store.events[-1] == "cancelled"
        store.gate.set()
        assert left(await post(service.client, 1)) == [1]


async def test_client_that_leaves_ends_what_is_awaited(
    serve: Serve, use: Use, shell: Shell
) -> None:
    store = use()
    async with serve(Doubler(), predict_endpoint=True) as service:
        predictor: Predictor[Any, Any] = service.app._offered["predictor"]
        store.gate.clear()
        context = RequestContext(30)
        instance = shell.main.Instance(left=1, right=0)
        task = asyncio.create_task(predictor.with_context(context).predict([instance]))
        await until(lambda: store.waiting == 1)
        context.cancel()
        with pytest.raises(RequestCancelled), anyio.fail_after(10):
            await task
        assert store.events[-1] == "cancelled"
        with pytest.raises(RequestCancelled):
            await predictor.with_context(context).predict([instance])


async def test_without_a_request_the_timeout_of_the_service_applies(
    serve: Serve, use: Use, shell: Shell
) -> None:
    store = use()
    async with serve(Doubler(), predict_endpoint=True, request_timeout=0.05) as service:
        store.gate.clear()
        with pytest.raises(DeadlineExceeded), anyio.fail_after(10):
            await service.app._offered["predictor"].predict([shell.main.Instance(left=1, right=0)])


@pytest.mark.parametrize("value", [8, 9], ids=["raises", "is cancelled"])
async def test_failure_of_the_resources_is_an_internal_error(
    serve: Serve, use: Use, value: float
) -> None:
    use()
    async with serve(Doubler(), predict_endpoint=True) as service:
        answer = await post(service.client, 1, value)
        assert left(await post(service.client, 1)) == [1]
    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_timeout_of_the_resources_is_not_the_deadline(serve: Serve, use: Use) -> None:
    async def slow(instances: Sequence[Any], store: Store) -> Tensors:
        if instances[0].left == 5:
            raise TimeoutError
        return await looked_up(instances, store)

    use(slow)
    async with serve(Doubler(), predict_endpoint=True) as service:
        assert (await post(service.client, 5)).status_code == 500


@pytest.mark.parametrize("batch", [1, 4])
async def test_instance_that_is_refused_after_waiting_is_named(
    serve: Serve, use: Use, batch: int
) -> None:
    use()
    async with serve(Doubler(), predict_endpoint=True, max_batch_size=batch) as service:
        answer = await post(service.client, 1, 2, 3, 7, 5)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "instances.3.left", "reason": "seven is not in the store"}
    ]


async def test_instances_may_differ_in_shape_after_waiting(serve: Serve, use: Use) -> None:
    async def each(instances: Sequence[Any], store: Store) -> list[Tensors]:
        return [await looked_up([instance], store) for instance in instances]

    use(each)
    async with serve(Doubler(), predict_endpoint=True) as service:
        assert left(await post(service.client, 1, 2, 3)) == [1, 2, 3]


async def test_resources_that_do_not_open_end_the_start(
    start: Start, use: Use, tmp_path: Path, failures: list[str]
) -> None:
    @asynccontextmanager
    async def resources() -> AsyncIterator[None]:
        raise ConnectionError("no store at 127.0.0.1:5432")
        yield

    use(resources=resources)
    model = Doubler()
    folder = write_model(tmp_path / "model", model)
    async with start(folder, model, predict_endpoint=True) as service:
        await until(lambda: bool(failures))
        assert not service.engine.ready
        assert (await post(service.client, 1)).status_code == 503
    assert failures == [
        "the resources of predict.py cannot be opened: ConnectionError: no store at 127.0.0.1:5432"
    ]
    assert model.batches == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fail", "ConnectionError: the store hung up"),
        ("return", "they returned"),
        ("cancel", "they were cancelled"),
    ],
)
async def test_resources_that_end_by_themselves_end_the_process(
    serve: Serve, use: Use, failures: list[str], how: str, words: str
) -> None:
    hung_up = asyncio.Event()

    async def listen() -> None:
        await hung_up.wait()
        raise ConnectionError("the store hung up")

    @asynccontextmanager
    async def resources() -> AsyncIterator[Store]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen())
                yield store
        except* ConnectionError:
            if how == "fail":
                raise
            if how == "cancel":
                raise asyncio.CancelledError from None

    store = use(resources=resources)
    async with serve(Doubler(), predict_endpoint=True) as service:
        assert left(await post(service.client, 1)) == [1]
        hung_up.set()
        await until(lambda: not service.engine.ready)
        assert (await service.client.get("/v2/health/ready")).status_code == 503
        assert (await service.client.get("/v2/health/live")).status_code == 200
        assert (await post(service.client, 1)).status_code == 503
        assert outputs(await ask(service, 2)) == [4]
    assert failures == [f"the resources of predict.py ended: {words}"]


async def test_service_may_end_while_they_open(start: Start, use: Use, tmp_path: Path) -> None:
    store = Store()
    store.gate.clear()

    @asynccontextmanager
    async def resources() -> AsyncIterator[float]:
        yield await store.look_up(1)

    use(resources=resources)
    model = Doubler()
    async with start(write_model(tmp_path / "model", model), model, predict_endpoint=True):
        await until(lambda: store.waiting == 1)
    assert store.events == ["cancelled"]


async def test_failure_to_close_them_is_raised() -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[None]:
        yield
        raise OSError("the store is gone")

    resources = Resources(make)
    await resources.open()
    with pytest.raises(OSError, match="the store is gone"):
        await resources.close()


@pytest.mark.parametrize("further", [False, True])
async def test_they_get_the_folder_of_the_model_if_they_need_an_argument(
    further: bool, serve: Serve, use: Use, tmp_path: Path
) -> None:
    def make(model_dir: Path) -> Any:
        folders.append(model_dir)
        return store.open()

    def make_with_options(model_dir: Path, option: int = 1, **others: int) -> Any:
        return make(model_dir)

    folders: list[Path] = []
    store = use(resources=make_with_options if further else make)
    async with serve(Doubler(), predict_endpoint=True):
        assert folders == [tmp_path / "doubler"]


async def test_what_they_need_not_be_given_they_do_not_get() -> None:
    store, folders = Store(), []

    def make(folder: str = "own", *more: str, **others: str) -> Any:
        folders.append(folder)
        return store.open()

    resources = Resources(make)
    await resources.open()
    await resources.close()
    assert folders == ["own"]


async def test_before_they_are_open_no_instance_is_converted() -> None:
    store = Store()
    resources = Resources(store.open)
    to_tensors = resources.bind(converted)
    with pytest.raises(NotReady):
        to_tensors([])
    for _ in range(2):
        await resources.open()
        await asyncio.sleep(0)
        assert to_tensors([])
        await resources.close()
        with pytest.raises(NotReady):
            to_tensors([])
    assert store.events == ["opened", "asked", "closed"] * 2
