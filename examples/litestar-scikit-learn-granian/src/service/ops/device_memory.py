"""The memory of GPUs among the metrics, as NVIDIA's driver reports it.

The driver's library (NVML) is loaded only where the model runs on a GPU.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.ops import metrics, process

TOTAL: Final = ("inference_device_memory_total_bytes", "Memory of a GPU.")
USED: Final = ("inference_device_memory_used_bytes", "What all processes use of it.")
OWN: Final = (
    "inference_device_memory_own_bytes",
    "What the workers use of it; missing where the driver does not tell, as in most containers.",
)
METRICS: Final = (TOTAL, USED, OWN)
LABELS: Final = ("device",)

_DEVICES: Final = ("cuda", "tensorrt")

log = logging.getLogger("service.metrics")


class DeviceMemory(Collector):
    """Memory of each GPU that the driver shows to this process, by its number there.

    ``nvml``: the module `pynvml`, initialised.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics without asking the driver."""
        for name, text in METRICS:
            yield GaugeMetricFamily(name, text, labels=LABELS)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the driver. What it does not tell is left out."""
        nvml = self._nvml
        families = [GaugeMetricFamily(name, text, labels=LABELS) for name, text in METRICS]
        alone = process.METRICS_DIRECTORY not in os.environ
        workers = {os.getpid()} if alone else process.workers()
        try:
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                values = (memory.total, memory.used, self._own(handle, workers))
                for family, value in zip(families, values, strict=True):
                    if value is not None:
                        family.add_metric([str(index)], value)
        except nvml.NVMLError as error:
            log.warning("the driver does not tell the memory of the GPU: %s", error)
        yield from (family for family in families if family.samples)

    def _own(self, handle: Any, workers: set[int]) -> int | None:
        """Return the bytes of the workers; None if the driver does not know them."""
        nvml = self._nvml
        try:
            running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError:
            return None
        used = [each.usedGpuMemory for each in running if each.pid in workers]
        known = [size for size in used if size is not None]
        return sum(known) if known else None


_watching: list[DeviceMemory] = []


def watch(device: str) -> None:
    """Add the memory of GPUs to the metrics if the model is on one. Call it when it is loaded."""
    if not device.lower().startswith(_DEVICES) or _watching:
        return
    try:
        import pynvml
    except ImportError:
        log.warning("no memory of the GPU among the metrics: install nvidia-ml-py")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.warning("no memory of the GPU among the metrics: %s", error)
        return
    _watching.append(DeviceMemory(pynvml))
    metrics.add(_watching[0])
