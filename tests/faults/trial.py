"""Plants faults in a copy of the repository and runs the tests that should notice."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from faults.fault import Fault, FaultError
from inferplate.checks import FOREIGN_PLUGINS
from inferplate.errors import InferplateError
from inferplate.matrix import Variant
from inferplate.render import render
from inferplate.workbench import Workbench, project_environment

_PARTS: Final = (
    "copier.yml",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    ".github",
    "benchmarks",
    "docs",
    "src",
    "template",
    "tests",
)
_JUNK: Final = shutil.ignore_patterns("__pycache__", ".*_cache", "*.py[co]")
_LIMIT: Final = 600.0
_MARGIN: Final = 30.0
_SLOWDOWN: Final = 4
_DISABLED: Final = [
    part for plugin in (*FOREIGN_PLUGINS, "cacheprovider") for part in ("-p", f"no:{plugin}")
]
_PASSED, _USAGE, _NO_TESTS = 0, 4, 5


@dataclass(frozen=True)
class Outcome:
    """What became of a fault. ``by``: the first test that failed, or how it was noticed else."""

    fault: Fault
    noticed: bool
    by: str
    seconds: float


class Trials:
    """A copy of the repository in which one fault after the other is tried.

    ``artifacts``: where the example models are trained, shared by all copies.
    """

    def __init__(self, root: Path, artifacts: Workbench) -> None:
        self._root: Final = root
        self._artifacts: Final = artifacts
        self._sound: Final = dict[tuple[Variant, tuple[str, ...], bool], float]()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self._tree = self._folder / "tree"
        self._tree.mkdir()
        for part in _PARTS:
            source = self._root / part
            if source.is_dir():
                shutil.copytree(source, self._tree / part, ignore=_JUNK)
            else:
                shutil.copy(source, self._tree)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, fault: Fault) -> Outcome:
        """Plant a fault and return whether its tests notice it.

        Raises:
            FaultError: it cannot be planted, or its tests fail without it.
        """
        path = self._tree / fault.file
        if not path.is_file():
            raise FaultError(f"{fault.name}: there is no such file")
        sound = path.read_bytes()
        changed = fault.plant(sound.decode("utf-8"))
        limits = [self._sound_seconds(fault, emitted) for emitted in (True, False)]
        began = time.monotonic()
        path.write_text(changed, encoding="utf-8")
        try:
            by = self._tests_that_fail(fault, limits)
        finally:
            path.write_bytes(sound)
        return Outcome(fault, bool(by), by, time.monotonic() - began)

    def _tests_that_fail(self, fault: Fault, limits: Sequence[float]) -> str:
        for emitted, limit in zip((True, False), limits, strict=True):
            if not (fault.emitted if emitted else fault.project):
                continue
            try:
                code, by = self._test(fault, emitted=emitted, limit=limit)
            except InferplateError as error:
                return f"not rendered: {error}"
            if code != _PASSED:
                return by
        return ""

    def _sound_seconds(self, fault: Fault, emitted: bool) -> float:
        """Return how long tests may take: a multiple of what they take without a fault.

        Raises:
            FaultError: they fail without it.
        """
        tests = fault.emitted if emitted else fault.project
        key = (fault.variant, tests, emitted)
        if tests and key not in self._sound:
            began = time.monotonic()
            code, by = self._test(fault, emitted=emitted, limit=_LIMIT)
            if code != _PASSED:
                raise FaultError(f"{fault.name}: {' '.join(tests)} fails without it: {by}")
            self._sound[key] = time.monotonic() - began
        return self._sound.get(key, 0) * _SLOWDOWN + _MARGIN

    def _test(self, fault: Fault, *, emitted: bool, limit: float) -> tuple[int, str]:
        """Run tests; return the exit code of pytest, and the first test that failed."""
        base = self._folder / "run"
        shutil.rmtree(base, ignore_errors=True)
        if emitted:
            project = render(self._tree, base, fault.variant.answers())
            shutil.copytree(
                self._artifacts.artifact(fault.variant), project / "models", dirs_exist_ok=True
            )
            command = [*_DISABLED, *fault.emitted]
            settings = {}
        else:
            project = self._tree
            command = ["-p", "no:cacheprovider", f"--basetemp={base}", *fault.project]
            settings = {"PYTHONPATH": os.pathsep.join([str(self._tree / "src"), *_paths()])}
        settings["PYTHONDONTWRITEBYTECODE"] = "1"
        code = _run(
            [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", *command],
            project,
            project_environment(settings),
            self._folder / "output",
            limit,
        )
        return self._explain(code, fault)

    def _explain(self, code: int | None, fault: Fault) -> tuple[int, str]:
        if code is None:
            return 1, "took too long"
        output = (self._folder / "output").read_text(encoding="utf-8", errors="replace")
        if code == _NO_TESTS or (code == _USAGE and "file or directory not found" in output):
            raise FaultError(f"{fault.name}: there are no such tests\n{output[-500:]}")
        failed = [
            line for line in output.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))
        ]
        by = failed[0].split(" - ")[0].split(maxsplit=1)[-1] if failed else f"exit code {code}"
        return code, by


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _run(
    command: Sequence[str], folder: Path, environment: dict[str, str], log: Path, limit: float
) -> int | None:
    """Return the exit code of a command, None if it took too long. Nothing of it lives on."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process with all that it started, also in sessions of their own."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in descendants:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
