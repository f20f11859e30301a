"""The folder in which variants are rendered and checked, shared by all processes of one run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from inferplate.template.render import render, snapshot
from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed

_SHOWN_LINES: Final = 60


@dataclass(frozen=True)
class Workbench:
    """What is made once is made once for all processes that share the folder.

    ``python``: the interpreter of an environment that holds every framework, runtime and server.
    """

    root: Path
    python: str = sys.executable

    def template(self) -> Path:
        """Return the snapshot of the template that this run is about."""
        return self.once("template", lambda path: snapshot(template_root(), path))

    def project(self, variant: Variant) -> Path:
        """Return the variant as it is emitted, rendered at the first call."""
        return self.once(
            f"variants/{variant}",
            lambda path: render(self.template(), path, variant.answers()),
        )

    def artifact(self, variant: Variant) -> Path:
        """Return the folder with the variant's example model, trained at the first call."""

        def train(destination: Path) -> None:
            render(self.template(), destination, variant.answers())
            self.run([self.python, "train.py"], destination, timeout=600)

        return self.once(f"trained/{variant.runtime}-{variant.example}", train) / "models"

    def place_artifact(self, variant: Variant) -> None:
        """Copy the example model into the variant."""
        shutil.copytree(
            self.artifact(variant), self.project(variant) / "models", dirs_exist_ok=True
        )

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a path under the root that is made by the first of all processes to ask."""
        path = self.root / name
        with self.lock(name):
            if not path.exists():
                unfinished = self.root / "unfinished" / name
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.parent.mkdir(parents=True, exist_ok=True)
                make(unfinished)
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished.rename(path)
        return path

    def lock(self, name: str) -> FileLock:
        """Return the lock of a name, held by one process and thread at a time."""
        path = self.root / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)

    @contextmanager
    def mypy(self, *arguments: str) -> Iterator[list[str]]:
        """Give the command of a strict mypy to one process at a time.

        They share its cache, so that it checks each distinct content once.
        """
        with self.lock("mypy"):
            cache = str(self.root / "mypy")
            yield [self.python, "-m", "mypy", "--strict", "--cache-dir", cache, *arguments]

    def run(
        self,
        command: Sequence[str],
        project: Path,
        *,
        timeout: float,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command in a project's folder and return what it printed.

        ``settings``: the service's, as environment variables.

        Raises:
            CheckFailed: it exited with another code than 0, or took longer than `timeout` seconds.
        """
        shown = " ".join(Path(part).name for part in command[:3])
        try:
            done = subprocess.run(  # noqa: S603 - the commands are ours
                command,
                cwd=project,
                env=project_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckFailed(
                f"{shown} took over {timeout:g} s\n{tail(error.stdout or b'')}"
            ) from None
        if done.returncode:
            raise CheckFailed(f"{shown} exited with {done.returncode}\n{tail(done.stdout)}")
        return done.stdout.decode("utf-8", "replace")


def project_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the environment of a project's processes: its own sources, no settings but these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SERVICE_", "_SERVICE_", "PYTEST_", "PROMETHEUS_", "PYTHON"))
    }
    return {**inherited, "PYTHONPATH": "src", "PYTHONUTF8": "1", **(settings or {})}


def tail(output: bytes) -> str:
    """Return the end of what a process printed, as text."""
    return "\n".join(output.decode("utf-8", "replace").splitlines()[-_SHOWN_LINES:])
