"""Run inside a container, by its own interpreter: tells as JSON what is there, and what it costs.

Usage: python -I -B - [COMMAND...], with this file as standard input; COMMAND is the health check.
"""

import json
import os
import sys
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

NOT_OF_THE_IMAGE = ("/dev", "/proc", "/sys", "/tmp")  # noqa: S108 - the container's own
RUNS = 10


def files() -> dict[str, int]:
    """List the image's files with their sizes in bytes."""
    found = {}
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if str(Path(folder, name)) not in NOT_OF_THE_IMAGE]
        for name in names:
            path = Path(folder, name)
            found[str(path)] = path.lstat().st_size
    return found


def distributions() -> dict[str, dict[str, Any]]:
    """Describe what is installed beside the interpreter that runs this.

    Returns:
        By name: version, installer, requirements, and the sizes in bytes of its files and of the
        bytecode that the installer made of them.
    """
    return {
        found.metadata["Name"]: {
            "version": found.version,
            "installer": (found.read_text("INSTALLER") or "").strip(),
            "requires": found.requires or [],
            "bytes": sum(map(size, paths(found))),
            "bytecode": sum(size(Path(cache_from_source(path))) for path in paths(found, ".py")),
        }
        for found in metadata.distributions()
    }


def paths(distribution: metadata.Distribution, suffix: str = "") -> list[Path]:
    """List a distribution's files, without bytecode."""
    found = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return [path for path in found if path.suffix != ".pyc" and path.name.endswith(suffix)]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main_process() -> dict[str, str]:
    """Read what process 1 is and may do."""
    lines = Path("/proc/1/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    command = Path("/proc/1/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return {
        "command": command,
        "user": status["Uid"].split()[0],
        "capabilities": status["CapEff"],
        "no_new_privileges": status["NoNewPrivs"],
    }


def cpu_seconds(command: list[str]) -> float:
    """Measure the processor time of a command that must succeed, the least of some runs."""
    costs = []
    for _ in range(RUNS):
        pid = os.posix_spawnp(command[0], command, os.environ)
        _, status, usage = os.wait4(pid, 0)
        if status:
            sys.exit(f"{command} exited with {os.waitstatus_to_exitcode(status)}")
        costs.append(usage.ru_utime + usage.ru_stime)
    return min(costs)


if __name__ == "__main__":
    report = {
        "files": files(),
        "distributions": distributions(),
        "main": main_process(),
        "health_seconds": cpu_seconds(sys.argv[1:]) if sys.argv[1:] else None,
    }
    json.dump(report, sys.stdout)
