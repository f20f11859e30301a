"""This machine: its processors, what is pinned where, and the tools that it has."""

import os
import platform
import re
import subprocess
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from inferplate.errors import InferplateError

_AVAILABLE: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


@dataclass(frozen=True)
class Pinning:
    """Which processors the servers and the load generators have."""

    server: frozenset[int]
    client: frozenset[int]

    @property
    def apart(self) -> bool:
        return not self.server & self.client


def pinning(workers: int) -> Pinning:
    """Give a server a processor for each worker, and the rest to the load generator.

    Where nothing is left, the load generator shares all of them with the server.

    Raises:
        InferplateError: this system cannot pin processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise InferplateError(f"processes cannot be pinned on {platform.system()}: use Linux")
    available = sorted(_AVAILABLE)
    server = frozenset(available[:workers])
    return Pinning(server, frozenset(available) - server or server)


def pin_self(processors: Collection[int]) -> None:
    """Keep this process, which starts and watches the others, to some processors."""
    os.sched_setaffinity(0, processors)


def describe() -> dict[str, Any]:
    """Describe the machine in general terms: no names, no addresses."""
    return {
        "processor": _processor(),
        "processors": len(_AVAILABLE),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "accelerators": _accelerators(),
    }


def tool_versions() -> dict[str, str]:
    """Ask the load generators for their versions."""
    shown = {"wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"]}
    versions = {}
    for name, command in shown.items():
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
            versions[name] = found[0] if found else "unknown"
    return versions


def _accelerators() -> list[str]:
    """Ask for the names of the cards that services could use, none without Nvidia's driver."""
    with suppress(OSError):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if not done.returncode:
            return done.stdout.split("\n")[:-1]
    return []


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return " ".join(re.sub(r"\(.*?\)|@.*|\d+-Core|Processor|CPU", "", found[1]).split())
    return platform.machine()
