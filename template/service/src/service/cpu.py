"""The share of the processors that each worker may use."""

import math
import os
from pathlib import Path


def threads_per_worker(workers: int) -> int:
    """Share the processors that this service may use among its workers, at least one each."""
    return max(1, math.floor(available_cpus() / workers))


def available_cpus() -> float:
    """Count the processors that affinity and the cgroup's quota leave to this process."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(affinity or 1, cgroup_quota(Path("/sys/fs/cgroup")))


def cgroup_quota(root: Path) -> float:
    """Read the processor quota of a cgroup (v2 or v1), infinity where there is none.

    Source: the kernel's documentation of ``cpu.max`` (v2) and of ``cpu.cfs_quota_us`` (v1).
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in {"max", "-1"} else int(quota) / int(period)
