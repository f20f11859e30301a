"""Plants faults in a copy of the repository and runs the tests that should notice."""

import os
import re
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

from faults.fault import WHOLE_SUITE, Fault, FaultError
from inferplate.errors import InferplateError
from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.verify.suites import FOREIGN_PLUGINS
from inferplate_tools.workbench import Workbench, project_environment

PARTS: Final = (
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
    "tools",
)
_JUNK: Final = shutil.ignore_patterns("__pycache__", ".*_cache", "*.py[co]")
_LIMIT: Final = 600.0
_EMITTED_TEST_LIMIT: Final = 40
_PROJECT_TEST_LIMIT: Final = 300
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
        self._sound: Final = set[tuple[Variant, tuple[str, ...], bool]]()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self._tree = self._folder / "tree"
        self._tree.mkdir()
        for part in PARTS:
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
            raise FaultError(f"{fault.name}: the file does not exist")
        sound = path.read_bytes()
        changed = fault.plant(sound.decode("utf-8"))
        began = time.monotonic()
        path.write_text(changed, encoding="utf-8")
        try:
            emitted, by, failed = self._tests_that_fail(fault)
        finally:
            path.write_bytes(sound)
        seconds = time.monotonic() - began
        self._check_without(fault, failed, emitted=emitted)
        return Outcome(fault, bool(by), by, seconds)

    def _tests_that_fail(self, fault: Fault) -> tuple[bool, str, tuple[str, ...]]:
        """Return whose test failed, the emitted ones or not, its name, and what to run again."""
        for emitted, tests in (
            (True, fault.emitted),
            (False, fault.quick),
            (False, fault.project),
        ):
            if not tests:
                continue
            try:
                code, by, failed = self._test(fault, tests, emitted=emitted)
            except InferplateError as error:
                return emitted, f"not rendered: {error}", ()
            if code != _PASSED:
                return emitted, by, failed
        return True, "", ()

    def _check_without(self, fault: Fault, failed: tuple[str, ...], *, emitted: bool) -> None:
        """Run the tests that failed again, without the fault.

        Raises:
            FaultError: they fail without it.
        """
        key = (fault.variant, failed, emitted)
        if not failed or key in self._sound:
            return
        code, by, _ = self._test(fault, failed, emitted=emitted)
        if code != _PASSED:
            raise FaultError(f"{fault.name}: {' '.join(failed)} fails without it: {by}")
        self._sound.add(key)

    def _test(
        self, fault: Fault, tests: tuple[str, ...], *, emitted: bool
    ) -> tuple[int, str, tuple[str, ...]]:
        """Run tests; return the exit code of pytest, the first that failed, what to run again."""
        base = self._folder / "run"
        shutil.rmtree(base, ignore_errors=True)
        if emitted:
            project = render(self._tree, base, fault.variant.answers())
            shutil.copytree(
                self._artifacts.artifact(fault.variant), project / "models", dirs_exist_ok=True
            )
            nearest = _nearest(project, fault.file) if tests == WHOLE_SUITE else ()
            command = [*_DISABLED, *_ends_after(_EMITTED_TEST_LIMIT), *nearest, *tests]
            settings = {}
        else:
            project = self._tree
            own = ["-p", "no:cacheprovider", f"--basetemp={base}"]
            command = [*own, *_ends_after(_PROJECT_TEST_LIMIT), *tests]
            own_code = [str(self._tree / folder) for folder in ("src", "tools")]
            settings = {"PYTHONPATH": os.pathsep.join([*own_code, *_paths()])}
        settings["PYTHONDONTWRITEBYTECODE"] = "1"
        code = _run(
            [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", *command],
            project,
            project_environment(settings),
            self._folder / "output",
            _LIMIT,
        )
        if code is None:
            return 1, "took too long", ()
        return self._explain(code, fault, tests)

    def _explain(
        self, code: int, fault: Fault, tests: tuple[str, ...]
    ) -> tuple[int, str, tuple[str, ...]]:
        output = (self._folder / "output").read_text(encoding="utf-8", errors="replace")
        if code == _NO_TESTS or (code == _USAGE and "file or directory not found" in output):
            raise FaultError(f"{fault.name}: there are no such tests\n{output[-500:]}")
        if any(line.startswith("Timeout (") for line in output.splitlines()):
            return 1, "a test took too long", ()
        for line in output.splitlines():
            if line.startswith(("FAILED tests", "ERROR tests")):
                by = line.split(" - ")[0].split(maxsplit=1)[-1]
                return code, by, (by,)
        return code, f"exit code {code}", tests


def _ends_after(seconds: int) -> list[str]:
    """Return the options of pytest that end it when a test takes longer."""
    options = (f"faulthandler_timeout={seconds}", "faulthandler_exit_on_timeout=true")
    return [part for option in options for part in ("-o", option)]


def _nearest(project: Path, file: str) -> list[str]:
    """Return the emitted test files that name a module or its folder, to be run first."""
    folder, module = Path(file).parts[-2], Path(file).stem
    imports = re.compile(rf"\b{folder}(\.| import .*\b){module}\b")
    found = []
    for path in sorted(project.glob("tests/**/test_*.py")):
        own = path.stem.removeprefix("test_") in (module, folder)
        if own or imports.search(path.read_text(encoding="utf-8")):
            found.append((not own, path.relative_to(project).as_posix()))
    return [path for _, path in sorted(found)]


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
