"""The CPUs that each worker may use."""

import math
from pathlib import Path

import pytest

from service.core import cpu


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


@pytest.mark.parametrize(("quota", "available"), [(math.inf, 3), (1.5, 1.5), (8, 3)])
def test_affinity_and_quota_of_this_process(
    monkeypatch: pytest.MonkeyPatch, quota: float, available: float
) -> None:
    def affinity(pid: int) -> set[int]:
        return {0, 1, 2} if pid == 0 else {0}  # 0 is the process that asks

    monkeypatch.setattr("os.sched_getaffinity", affinity, raising=False)
    monkeypatch.setattr(cpu, "cgroup_quota", lambda: quota)
    assert cpu.available_cpus() == available


@pytest.mark.parametrize(("cpus", "workers", "threads"), [(4, 1, 4), (4, 3, 1), (0.5, 1, 1)])
def test_threads_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, cpus: float, workers: int, threads: int
) -> None:
    monkeypatch.setattr(cpu, "available_cpus", lambda: cpus)
    assert cpu.threads_per_worker(workers) == threads
