"""Runs a program that ends when this one is interrupted, with everything that it has started."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_GRACE: Final = 2
"""Seconds that a program has to clean up after SIGTERM."""


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    given: bytes,
    timeout: float | None,
    shielded: bool,
) -> tuple[int, bytes, bytes]:
    """Run a program and return its exit code, what it printed, and what it said on stderr.

    ``given``: its input. ``shielded``: from Ctrl-C.

    Raises:
        subprocess.TimeoutExpired, KeyboardInterrupt: it was ended, with its children.
    """
    with subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=shielded,
    ) as process:
        try:
            output, said = process.communicate(given, timeout)
        except BaseException:
            _end(process)
            raise
    return process.returncode, output, said


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and its descendants, which may hold its output open, such as ssh."""
    descendants = _descendants(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    process.kill()
    for child in descendants:
        with suppress(OSError):
            os.kill(child, signal.SIGTERM)


def _descendants(parent: int) -> list[int]:
    """List the processes that a process has started, and those that they have; by ``ps``."""
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - the system's
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except OSError:  # not everywhere
        return []
    pairs = [(int(pid), int(above)) for pid, above in map(str.split, listed.splitlines())]
    found = [parent]
    for one in found:
        found += [pid for pid, above in pairs if above == one]
    return found[1:]
