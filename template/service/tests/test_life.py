"""The life of a model: loading, ready, draining, and every way not to start."""

import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import numpy as np
import pytest
from conftest import Doubler, Service, running, until, write_model

from service import cpu, process, runtime
from service.config import Settings
from service.engine import Engine, Model
from service.manifest import ArtifactError, Manifest
from service.tensors import TensorSpec

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "doubler", Doubler())


@asynccontextmanager
async def starting(folder: Path, model: Doubler, **changed: Any) -> AsyncIterator[Service]:
    def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
        model.run({"x": np.ones((1, 2), np.float32)})
        return model

    settings = Settings(**{"typed_endpoint": False, "model_dir": folder, **changed})
    async with running(Engine(settings, load, "test"), settings) as service:
        yield service


async def test_probes_tell_where_the_model_is(folder: Path) -> None:
    model = Doubler()
    model.gate.clear()
    ready_paths = ("/v2/health/ready", "/v2/models/doubler/ready")
    async with starting(folder, model) as service:
        ask = service.client
        assert (await ask.get("/v2/health/live")).json() == {"live": True}
        for path in ready_paths:
            answer = await ask.get(path)
            assert answer.status_code == 503
            assert answer.json() == {"live": True, "ready": False}
        early = await ask.post("/v2/models/doubler/infer", json={"inputs": [TENSOR]})
        assert early.status_code == 503
        model.gate.set()
        await until(lambda: service.engine.ready)
        for path in ready_paths:
            answer = await ask.get(path)
            assert answer.status_code == 200
            assert answer.json() == {"live": True, "ready": True}
        await service.engine.close()
        assert (await ask.get("/v2/health/ready")).status_code == 503
        assert (await ask.get("/v2/health/live")).status_code == 200


async def test_drain_flag_of_the_main_process_reaches_the_probe(folder: Path) -> None:
    async with starting(folder, Doubler()) as service:
        await until(lambda: service.engine.ready)
        with process.prepare(workers=1):
            assert (await service.client.get("/v2/health/ready")).status_code == 200
            process.start_draining()
            assert (await service.client.get("/v2/health/ready")).status_code == 503
            answer = await service.client.post(
                "/v2/models/doubler/infer", json={"inputs": [TENSOR]}
            )
            assert answer.status_code == 200


async def test_drain_closes_the_connection_of_a_request_in_flight(folder: Path) -> None:
    model = Doubler()
    answers: list[httpx.Response] = []
    with process.prepare(workers=1):
        async with starting(folder, model) as service, anyio.create_task_group() as tasks:
            await until(lambda: service.engine.ready)
            ask = service.client
            assert "connection" not in (await ask.get("/v2/health/live")).headers
            model.gate.clear()

            async def infer() -> None:
                body = {"inputs": [TENSOR]}
                answers.append(await ask.post("/v2/models/doubler/infer", json=body))

            tasks.start_soon(infer)
            await until(lambda: service.engine.pending_rows > 0)
            process.start_draining()
            with anyio.fail_after(10):
                while "connection" not in (await ask.get("/v2/health/live")).headers:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            model.gate.set()
    assert [answer.headers.get("connection") for answer in answers] == ["close"]


async def test_service_is_ready_when_every_worker_is(folder: Path) -> None:
    with process.prepare(workers=1) as shared:
        async with starting(folder, Doubler(), workers=2) as service:
            ready = shared / f"ready-{os.getpid()}"
            await until(ready.exists)
            assert not service.engine.ready
            (shared / f"ready-{os.getppid()}").touch()
            assert service.engine.ready
            answer = await service.client.get("/v2/health/ready")
    assert answer.status_code == 200


async def test_every_batch_size_is_warmed_up(folder: Path) -> None:
    sizes: list[int] = []

    class Recorder(Doubler):
        def run(self, batch: Any) -> Any:
            sizes.append(len(batch["x"]))
            return super().run(batch)

    async with starting(folder, Recorder(), batch_max_rows=6) as service:
        await until(lambda: service.engine.ready)
    assert sorted(set(sizes)) == [1, 2, 4, 6]


@pytest.mark.parametrize(("setting", "chosen"), [(0, 1), (4, 4)])
async def test_batches_are_as_large_as_pays_unless_a_setting_says_it(
    folder: Path, setting: int, chosen: int
) -> None:
    async with starting(
        folder, Doubler(), batch_max_rows=setting, batch_latency_budget=0
    ) as service:
        await until(lambda: service.engine.ready)
        metadata = (await service.client.get("/v2/models/doubler")).json()
        metrics = (await service.client.get("/metrics")).text
    assert metadata["parameters"] == {"max_batch_rows": chosen}
    assert f"inference_batch_max_rows {chosen:.1f}" in metrics


def test_spec_of_zeros() -> None:
    assert TensorSpec("x", "FP32", (-1, 3, -1)).zeros(2).shape == (2, 3, 1)
    assert TensorSpec("x", "BYTES", (-1,)).zeros(2).tolist() == [b"", b""]


async def test_artifact_must_be_there(tmp_path: Path, failures: list[str]) -> None:
    await assert_no_start(tmp_path, failures, "train.py")


async def test_altered_artifact_is_refused(folder: Path, failures: list[str]) -> None:
    (folder / "doubler.bin").write_bytes(b"thrice")
    await assert_no_start(folder, failures, "altered")


async def test_missing_artifact_is_refused(folder: Path, failures: list[str]) -> None:
    (folder / "doubler.bin").unlink()
    await assert_no_start(folder, failures, "missing")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("runtime", "abacus", "'abacus'"),
        ("file", "../doubler.bin", "leaves the model folder"),
        ("sha256", {"/etc/passwd": "0"}, "leaves the model folder"),
        ("sha256", {}, "not in the manifest"),
        ("name", "two words", "name"),
        ("inputs", [], "inputs"),
        ("inputs", [{"name": "x", "datatype": "FLOAT", "shape": [-1, 2]}], "FLOAT"),
        ("outputs", [{"name": "z", "datatype": "FP32", "shape": [-1, 2]}], "no output 'z'"),
        ("outputs", [{"name": "y", "datatype": "INT8", "shape": [-1, 2]}], "INT8"),
        ("surplus", 1, "surplus"),
    ],
)
async def test_wrong_manifest_is_refused(
    folder: Path, failures: list[str], key: str, value: Any, words: str
) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    await assert_no_start(folder, failures, words)


async def test_model_that_model_py_does_not_describe_is_refused(
    folder: Path, failures: list[str]
) -> None:
    await assert_no_start(folder, failures, "SERVICE_TYPED_ENDPOINT", typed_endpoint=True)


async def test_runtime_refuses_what_it_cannot_load(tmp_path: Path) -> None:
    artifact = tmp_path / "broken.bin"
    artifact.write_bytes(b"no model at all")
    spec = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    manifest = Manifest.model_validate(
        {
            "name": "broken",
            "version": "1",
            "runtime": runtime.RUNTIME,
            "file": artifact.name,
            "sha256": {},
            "inputs": spec,
            "outputs": spec,
        }
    )
    with pytest.raises(ArtifactError) as refusal:
        runtime.load(artifact, manifest, threads=1, device="cpu")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"unit/cpu.max": "50000 100000\n", "membership": "0::/unit\n"}, 0.5),
        ({"unit/cpu.max": "50000 100000\n", "membership": "0::/another\n"}, math.inf),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000", "membership": "0::/a/b"}, 0.5),
        (
            {
                "cpu/unit/cpu.cfs_quota_us": "50000\n",
                "cpu/unit/cpu.cfs_period_us": "100000\n",
                "membership": "4:memory:/\n1:cpu,cpuacct:/unit\n0::/\n",
            },
            0.5,
        ),
        ({"cpu.max": "150000 100000\n", "membership": "0::/seen/from/outside\n"}, 1.5),
        ({}, math.inf),
    ],
)
def test_processor_quota(tmp_path: Path, files: dict[str, str], quota: float) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert cpu.cgroup_quota(tmp_path, tmp_path / "membership") == quota


@pytest.mark.parametrize(("cpus", "workers", "threads"), [(4, 1, 4), (4, 3, 1), (0.5, 1, 1)])
def test_threads_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, cpus: float, workers: int, threads: int
) -> None:
    monkeypatch.setattr(cpu, "available_cpus", lambda: cpus)
    assert cpu.threads_per_worker(workers) == threads


def test_failure_reaches_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    with process.prepare(workers=1):
        assert process.failure() is None
        process.fail("no such model")
        assert process.failure() == "no such model"
    assert [pid for pid, _ in signals] == [os.getpid()]


TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


async def assert_no_start(folder: Path, failures: list[str], words: str, **changed: Any) -> None:
    async with starting(folder, Doubler(), **changed) as service:
        await until(lambda: bool(failures))
        await anyio.lowlevel.checkpoint()
        assert not service.engine.ready
    assert len(failures) == 1
    assert words in failures[0]
    assert "\n" not in failures[0]
