"""An environment of its own for each service and peer, made once and kept in the user's cache."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from filelock import FileLock
from platformdirs import user_cache_path

from inferplate.errors import InferplateError
from inferplate_tools.errors import CheckFailed

_COMPLETE: Final = ".complete"


def environment(
    name: str,
    arguments: Sequence[str],
    identity: Sequence[str],
    *,
    folder: Path,
    python: str | None = None,
) -> str:
    """Return the interpreter of an environment.

    ``arguments``: what ``uv pip install`` is given, run in ``folder``. ``identity``: what the
    environment depends on; where it has not changed, the one that is there is used again.
    ``python``: the versions that will do, this one if None.

    Raises:
        CheckFailed: it cannot be made.
    """
    wanted = python or sys.executable
    digest = hashlib.sha256(json.dumps([wanted, *identity]).encode()).hexdigest()[:16]
    place = user_cache_path("inferplate") / "bench" / f"{name}-{digest}"
    place.parent.mkdir(parents=True, exist_ok=True)
    interpreter = str(place / "bin" / "python")
    with FileLock(place.with_suffix(".lock")):
        if not (place / _COMPLETE).exists():
            shutil.rmtree(place, ignore_errors=True)
            _uv(["venv", "--python", wanted, str(place)], folder)
            if arguments:
                install = ["pip", "install", "--python", interpreter, "--compile-bytecode"]
                _uv([*install, *arguments], folder)
            (place / _COMPLETE).touch()
    return interpreter


def packages(interpreter: str) -> dict[str, str]:
    """List the versions of the packages that an environment has."""
    listed = _uv(["pip", "list", "--format", "json", "--python", interpreter], Path.cwd())
    return {package["name"]: package["version"] for package in json.loads(listed)}


def require_uv() -> None:
    """Check that uv can be run.

    Raises:
        InferplateError: it is not installed.
    """
    if not _command():
        raise InferplateError("uv not found: make bench installs it, or pip install uv")


def _command() -> list[str]:
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else []


def _uv(arguments: Sequence[str], folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - uv, with our own arguments
        [*_command(), "--quiet", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise CheckFailed(f"uv {arguments[0]} failed: {reason}")
    return done.stdout
