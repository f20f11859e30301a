"""The life of a model: loading, ready, draining, and every way not to start."""

import os
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import numpy as np
import pytest

from managed.conftest import Serve, Start
from managed.importing import Shell
from managed.support import INFER, Doubler, FakeRuntime, running, until, write_model
from service.core.engine import Engine
from service.core.errors import InvalidTensors, NotReady
from service.core.manifest import ArtifactError
from service.core.request_context import RequestContext
from service.core.tensors import Signature, TensorSpec
from service.interfaces import Model
from service.ops import process
from service.ops.settings import Settings

pytestmark = pytest.mark.anyio

TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


async def test_probes_say_whether_the_model_is_ready(start: Start, folder: Path) -> None:
    model = Doubler()
    model.gate.clear()
    ready_paths = ("/v2/health/ready", "/v2/models/doubler/ready")
    async with start(folder, model) as service:
        ask = service.client
        assert (await ask.get("/v2/health/live")).json() == {"live": True}
        for path in ready_paths:
            answer = await ask.get(path)
            assert answer.status_code == 503
            assert answer.json() == {"live": True, "ready": False}
        await until(lambda: service.engine.has_manifest)
        early = await ask.post(INFER, json={"inputs": [TENSOR]})
        metadata = await ask.get("/v2/models/doubler")
        assert (early.status_code, metadata.status_code) == (503, 503)
        model.gate.set()
        await until(lambda: service.engine.ready)
        for path in ready_paths:
            answer = await ask.get(path)
            assert answer.status_code == 200
            assert answer.json() == {"live": True, "ready": True}
        metadata = await ask.get("/v2/models/doubler")
        assert metadata.json()["parameters"] == {"max_batch_size": 64}
        await service.engine.close()
        assert (await ask.get("/v2/health/ready")).status_code == 503
        assert (await ask.get("/v2/health/live")).status_code == 200


async def test_drain_flag_of_the_main_process_reaches_the_probe(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        with process.prepare(workers=1):
            assert (await service.client.get("/v2/health/ready")).status_code == 200
            process.start_draining()
            assert (await service.client.get("/v2/health/ready")).status_code == 503
            answer = await service.client.post(INFER, json={"inputs": [TENSOR]})
            assert answer.status_code == 200


async def test_drain_closes_the_connection_of_a_request_in_flight(serve: Serve) -> None:
    model = Doubler()
    answers: list[httpx.Response] = []
    with process.prepare(workers=1):
        async with serve(model) as service, anyio.create_task_group() as tasks:
            ask = service.client
            assert "connection" not in (await ask.get("/v2/health/live")).headers
            model.gate.clear()

            async def infer() -> None:
                answers.append(await ask.post(INFER, json={"inputs": [TENSOR]}))

            tasks.start_soon(infer)
            await until(lambda: service.engine.pending_rows > 0)
            process.start_draining()
            with anyio.fail_after(10):
                while "connection" not in (await ask.get("/v2/health/live")).headers:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            model.gate.set()
    assert [answer.headers.get("connection") for answer in answers] == ["close"]


async def test_service_is_ready_when_every_worker_is(start: Start, folder: Path) -> None:
    with process.prepare(workers=1) as shared:
        async with start(folder, Doubler(), workers=2) as service:
            ready = shared / f"ready-{os.getpid()}"
            await until(ready.exists)
            assert not service.engine.ready
            (shared / f"ready-{os.getppid()}").touch()
            assert service.engine.ready
            answer = await service.client.get("/v2/health/ready")
    assert answer.status_code == 200


async def test_application_can_be_started_again(shell: Shell, folder: Path) -> None:
    settings = Settings(model_dir=folder)
    app = shell.main.create_app(settings, FakeRuntime(Doubler()))
    for _ in range(2):
        async with running(app) as service:
            await until(lambda: app.engine.ready)
            infer = await service.client.post(INFER, json={"inputs": [TENSOR]})
            assert infer.json()["outputs"][0]["data"] == [2, 4]
        assert not app.engine.ready


async def test_engine_without_a_service(folder: Path) -> None:
    engine = Engine(Settings(model_dir=folder), FakeRuntime(Doubler()))
    tensors = {"x": np.ones((3, 2), np.float32)}
    for _ in range(2):
        with pytest.raises(NotReady):
            await engine.infer(tensors)
        await engine.start()
        assert (await engine.infer(tensors))["y"].tolist() == [[2, 2]] * 3
        assert (await engine.infer(tensors, RequestContext(10)))["y"].tolist() == [[2, 2]] * 3
        with pytest.raises(InvalidTensors):
            await engine.infer({"z": tensors["x"]})
        await engine.close()


async def test_artifact_that_is_written_while_it_is_loaded_does_not_start(folder: Path) -> None:
    artifact = folder / "doubler.bin"

    class Overwritten(FakeRuntime):
        def load(self, *given: Any, **options: Any) -> Model:
            artifact.with_suffix(".new").write_bytes(artifact.read_bytes())
            artifact.with_suffix(".new").replace(artifact)
            return super().load(*given, **options)

    engine = Engine(Settings(model_dir=folder), Overwritten(Doubler()))
    with pytest.raises(ArtifactError, match="was written while the service loaded it"):
        await engine.start()
    await engine.close()


async def test_model_that_writes_into_its_input_does_not_start(
    start: Start, folder: Path, failures: list[str]
) -> None:
    class Writer(Doubler):
        def run(self, batch: Any) -> Any:
            batch["x"] *= 2
            return {"y": batch["x"]}

    async with start(folder, Writer()):
        await until(lambda: bool(failures))
    assert "read-only" in failures[0]


async def test_arrays_stay_those_of_the_caller(folder: Path) -> None:
    engine = Engine(Settings(model_dir=folder), FakeRuntime(Doubler()))
    await engine.start()
    x = np.ones((1, 2), np.float32)
    await engine.infer({"x": x})
    x[0, 0] = 3
    await engine.close()


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.ones((1, 2), np.float64)},
        {"y": np.ones((1, 3), np.float32)},
        {"y": np.ones((2, 2), np.float32)},
        {"z": np.ones((1, 2), np.float32)},
        {},
    ],
    ids=["datatype", "width", "rows", "name", "nothing"],
)
async def test_outputs_that_change_after_warm_up_are_not_served(
    serve: Serve, outputs: dict[str, Any]
) -> None:
    class Fickle(Doubler):
        changed = False

        def run(self, batch: Any) -> Any:
            return outputs if self.changed else super().run(batch)

    model = Fickle()
    async with serve(model) as service:
        model.changed = True
        answer = await service.client.post(INFER, json={"inputs": [TENSOR]})
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("The model could not process this request.")


async def test_every_batch_size_is_warmed_up(start: Start, folder: Path) -> None:
    sizes: list[int] = []

    class Recorder(Doubler):
        def run(self, batch: Any) -> Any:
            sizes.append(len(batch["x"]))
            return super().run(batch)

    async with start(folder, Recorder(), max_batch_size=6) as service:
        await until(lambda: service.engine.ready)
    assert sizes[-12:] == [size for size in (1, 2, 4, 6) for _ in range(4)][-12:]


@pytest.mark.parametrize(("setting", "chosen"), [(0, 1), (4, 4)])
async def test_batches_are_as_large_as_pays_unless_a_setting_gives_their_size(
    serve: Serve, setting: int, chosen: int
) -> None:
    async with serve(Doubler(), max_batch_size=setting, max_batch_latency=0) as service:
        metadata = (await service.client.get("/v2/models/doubler")).json()
        metrics = (await service.client.get("/metrics")).text
    assert metadata["parameters"] == {"max_batch_size": chosen}
    assert f"inference_max_batch_size {chosen:.1f}" in metrics


@pytest.mark.parametrize(
    ("model", "manifest", "words"),
    [
        (Doubler(), Doubler(outputs=(TensorSpec("z", "FP32", (-1, 2)),)), "the output 'z'"),
        (Doubler(), Doubler(outputs=(TensorSpec("y", "INT8", (-1, 2)),)), "INT8"),
        (
            Doubler(signature=Signature((TensorSpec("x", "FP32", (-1, 7)),), ())),
            Doubler(),
            "FP32 [-1, 7] in the model",
        ),
    ],
    ids=["output without its name", "output of another type", "input of another shape"],
)
async def test_model_that_its_manifest_does_not_describe_is_refused(
    start: Start, tmp_path: Path, failures: list[str], model: Doubler, manifest: Doubler, words: str
) -> None:
    folder = write_model(tmp_path / "doubler", manifest)
    await assert_refused(start, folder, model, failures, words)


async def test_missing_artifact_is_refused(
    start: Start, tmp_path: Path, failures: list[str]
) -> None:
    await assert_refused(start, tmp_path, Doubler(), failures, "train.py")


async def assert_refused(
    start: Start, folder: Path, model: Doubler, failures: list[str], words: str
) -> None:
    async with start(folder, model) as service:
        await until(lambda: bool(failures))
        await anyio.lowlevel.checkpoint()
        assert not service.engine.ready
    assert len(failures) == 1
    assert words in failures[0]
    assert "\n" not in failures[0]
