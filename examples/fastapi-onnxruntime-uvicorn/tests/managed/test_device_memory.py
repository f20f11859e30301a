"""The memory of GPUs among the metrics. The driver's library is a stand-in."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from managed.conftest import Serve
from managed.support import Doubler
from service.ops import device_memory, metrics, process

pytestmark = pytest.mark.anyio

TOTAL, USED, OWN = (name for name, _ in device_memory.METRICS)


class Driver:
    """A driver with two GPUs. ``running``: process ids and bytes on the first."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.fails = False
        self.running: list[tuple[int, int | None]] = []

    def nvmlInit(self) -> None:
        self._answer()

    def nvmlDeviceGetCount(self) -> int:
        self._answer()
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=8000, used=[700, 500][handle])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        if handle:
            raise self.NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.running]

    def _answer(self) -> None:
        if self.fails:
            raise self.NVMLError("Driver Not Loaded")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Let the service find a driver; afterwards the metrics are as they were."""
    driver = Driver()
    added: list[Any] = []
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(device_memory, "_watching", [])
    monkeypatch.setattr(metrics, "_further", added)
    yield driver
    for collector in added:
        REGISTRY.unregister(collector)


def sample(name: str, device: str) -> str:
    return name + '{device="' + device + '"}'


async def page(serve: Serve, device: str) -> str:
    async with serve(Doubler(), device=device) as service:
        return (await service.client.get("/metrics")).text


async def test_a_service_on_a_gpu_shows_its_memory(serve: Serve, driver: Driver) -> None:
    driver.running = [(os.getpid(), 300), (os.getpid() + 1, 40), (os.getpid(), None)]
    found = await page(serve, "cuda")
    for line in (
        sample(TOTAL, "0") + " 8000.0",
        sample(USED, "0") + " 700.0",
        sample(USED, "1") + " 500.0",
        sample(OWN, "0") + " 300.0",
    ):
        assert line in found.splitlines()
    assert sample(OWN, "1") not in found, "the driver does not tell"


async def test_the_processes_of_others_do_not_count(serve: Serve, driver: Driver) -> None:
    driver.running = [(os.getpid() + 1, 40)]
    assert OWN not in await page(serve, "cuda")


async def test_several_workers_show_it_together(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(process.METRICS_DIRECTORY, str(tmp_path))
    monkeypatch.setattr(process, "workers", lambda: {1_000_001, 1_000_002})
    driver.running = [(1_000_001, 300), (1_000_002, 200), (os.getpid(), 40)]
    for _ in range(2):
        device_memory.watch("cuda:1")
    found = (await metrics.render()).decode()
    assert sample(OWN, "0") + " 500.0" in found.splitlines()


async def test_on_the_cpu_the_driver_is_not_asked(serve: Serve, driver: Driver) -> None:
    assert "device_memory" not in await page(serve, "cpu")


async def test_a_driver_that_stops_to_answer_leaves_the_other_metrics(
    serve: Serve, driver: Driver
) -> None:
    async with serve(Doubler(), device="cuda") as service:
        driver.fails = True
        found = (await service.client.get("/metrics")).text
    assert "device_memory" not in found
    assert "inference_ready_workers" in found


async def test_without_a_driver_the_service_says_so_and_serves(
    serve: Serve, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.fails = True
    assert "device_memory" not in await page(serve, "cuda")
    assert "no memory of the GPU among the metrics: Driver Not Loaded" in caplog.messages


async def test_without_the_library_the_service_says_what_to_install(
    serve: Serve,
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "device_memory" not in await page(serve, "cuda")
    assert "install nvidia-ml-py" in "\n".join(caplog.messages)
