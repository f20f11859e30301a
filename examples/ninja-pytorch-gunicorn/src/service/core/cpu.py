"""How many CPUs each worker may use."""

import math
import os
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def threads_per_worker(workers: int) -> int:
    """Divide the available CPUs among the workers; each gets at least one."""
    return max(1, math.floor(available_cpus() / workers))


def available_cpus() -> float:
    """Return the CPUs that affinity and the cgroup quota leave to this process."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(affinity or 1, cgroup_quota())


def cgroup_quota(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """Return the lowest CPU quota of this process's cgroup (v2 or v1) and of its parents.

    In a container the cgroup is mounted at the root; under systemd it is far below.

    Returns:
        A number of CPUs, infinity if there is no quota.
    """
    quotas = [_quota(cgroups), _quota(cgroups / "cpu")]
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / "cpu" if controllers else cgroups
        own = top / path.lstrip("/")
        quotas += [_quota(folder) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return min(quotas)


def _quota(folder: Path) -> float:
    """Return the quota of one cgroup.

    Source: the kernel's documentation of ``cpu.max`` (v2) and of ``cpu.cfs_quota_us`` (v1).
    """
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in {"max", "-1"} else int(quota) / int(period)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
