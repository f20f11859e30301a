"""Keeps ``uv.lock`` in step with ``pyproject.toml``, where a project has one."""

import shutil
import subprocess
from typing import Final

from inferplate.progress import step
from inferplate.project.plan import Plan

LOCKFILE: Final = "uv.lock"
_PYPROJECT: Final = "pyproject.toml"
_PATIENCE: Final = 120
"""Seconds that uv may take to resolve the dependencies."""


def is_stale(plan: Plan) -> bool:
    """Return whether an update changes ``pyproject.toml`` of a project with ``uv.lock``."""
    changed = any(change.path == _PYPROJECT for change in plan.changes)
    return changed and (plan.project.root / LOCKFILE).is_file()


def relock(plan: Plan) -> str:
    """Run ``uv lock`` after an update; return why it could not be done, else nothing."""
    if _PYPROJECT in plan.conflicts:
        return f"{_PYPROJECT} has conflicts"
    uv = shutil.which("uv")
    if uv is None:
        return "uv is not installed"
    command = [uv, "lock", "--quiet", "--project", str(plan.project.root)]
    try:
        with step("Updating uv.lock"):
            done = subprocess.run(  # noqa: S603 - the user's uv
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PATIENCE,
            )
    except subprocess.TimeoutExpired:
        return f"uv took longer than {_PATIENCE} s"
    except KeyboardInterrupt:  # the update itself is done
        return "uv was interrupted"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[0] if lines else f"uv exited with {done.returncode}") if done.returncode else ""
