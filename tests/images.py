"""Images that a Docker engine builds of emitted projects, and containers that run them."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inferplate_tools.client import HOST
from inferplate_tools.errors import CheckFailed
from inferplate_tools.service import answers_ready, free_port, wait_until
from inferplate_tools.workbench import tail

DOCKER: Final = os.environ.get("DOCKER", "docker")
LOCKED_DOWN: Final = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=512",
)
PYTHON_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

_OFFICIAL: Final = f"python:{PYTHON_VERSION}-slim"
_STAND_IN: Final = f"inferplate-stand-in:{PYTHON_VERSION}"
_HERE: Final = Path(__file__).parent
_INSIDE: Final = (_HERE / "inside.py").read_bytes()
_START_SECONDS: Final = 180
_STOP_SECONDS: Final = 45
_POLL_SECONDS: Final = 0.02


def docker(*arguments: str, stdin: bytes = b"", timeout: float = 120) -> bytes:
    """Run a command of Docker's and return what it printed.

    Raises:
        CheckFailed: it exited with another code than 0.
    """
    done = subprocess.run(
        [DOCKER, *arguments], input=stdin, capture_output=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise CheckFailed(f"docker {arguments[0]} failed\n{tail(done.stderr)}")
    return done.stdout


def inspect(name: str) -> Any:
    """Return what Docker knows of an image or a container."""
    return json.loads(docker("inspect", name))[0]


def engine_answers() -> bool:
    """Return whether there is a Docker engine."""
    try:
        docker("version")
    except (CheckFailed, OSError, subprocess.TimeoutExpired):
        return False
    return True


def find_base() -> str:
    """Return the official base image for this interpreter's version, or make a stand-in for it.

    Raises:
        CheckFailed: it can be neither pulled nor made.
    """
    for name in (_OFFICIAL, _STAND_IN):
        if docker("images", "--quiet", name):
            return name
    try:
        docker("pull", "--quiet", _OFFICIAL, timeout=600)
    except CheckFailed:
        make = [str(_HERE / "stand-in-base"), sys.executable, _STAND_IN]
        done = subprocess.run(make, capture_output=True, check=False)
        if done.returncode:
            raise CheckFailed(f"no base image\n{tail(done.stderr)}") from None
        return _STAND_IN
    return _OFFICIAL


def machine_arguments() -> dict[str, str]:
    """Translate this machine's package index and proxies into arguments of a build."""
    configured = pip_configuration()
    index = configured.get("index-url")
    arguments = {
        "PIP_INDEX_URL": index,
        "UV_DEFAULT_INDEX": os.environ.get("UV_DEFAULT_INDEX", index),
    }
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        arguments[name] = os.environ.get(name, os.environ.get(name.lower()))
    return {name: value for name, value in arguments.items() if value}


def pip_configuration() -> dict[str, str]:
    """Read pip's settings, from its files and from the environment, by their names."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        line.partition("=")[0].rpartition(".")[2]: shlex.split(line.partition("=")[2])[0]
        for line in listed.splitlines()
    }


def local_wheels(distribution: str) -> list[Path]:
    """List a distribution's wheels in the folders where pip was told to look."""
    folders = map(Path, pip_configuration().get("find-links", "").split())
    return [wheel for folder in folders for wheel in folder.glob(f"{distribution}-*.whl")]


@dataclass(frozen=True)
class Build:
    """A build that succeeded.

    ``steps``: for each instruction, whether its result was in the cache.
    """

    seconds: float
    steps: dict[str, bool]

    @classmethod
    def parse(cls, seconds: float, progress: str) -> Self:
        """Read the plain progress that BuildKit prints."""
        instructions = dict(re.findall(r"^#(\d+) \[(?:\S+ )?\d+/\d+\] (.+)$", progress, re.M))
        cached = set(re.findall(r"^#(\d+) CACHED$", progress, re.M))
        return cls(seconds, {text: number in cached for number, text in instructions.items()})

    def cached(self, part: str) -> set[bool]:
        """Tell of the instructions that have a text in them whether they were in the cache."""
        return {cached for instruction, cached in self.steps.items() if part in instruction}


@dataclass(frozen=True)
class Image:
    """What a project's own ``make image`` builds, with further arguments for every build.

    ``alone``: held while something is built, for Docker 20.10 keeps nothing in its cache of steps
    that two builds run together.
    """

    project: Path
    tag: str
    arguments: Mapping[str, str]
    alone: FileLock

    def variables(self, *options: str, **arguments: str) -> list[str]:
        """Return the variables of make that name the image and the arguments of its build."""
        given = [
            f"--build-arg={name}={value}" for name, value in {**self.arguments, **arguments}.items()
        ]
        build_args = shlex.join(["--progress=plain", "--network=host", *options, *given])
        return [f"IMAGE={self.tag}", f"BUILD_ARGS={build_args}"]

    def build(self, *options: str, **arguments: str) -> Build:
        """Build the image.

        Raises:
            CheckFailed: it cannot be built.
        """
        command = ["make", "image", *self.variables(*options, **arguments)]
        with self.alone:
            began = time.monotonic()
            done = subprocess.run(
                command,
                cwd=self.project,
                env={**os.environ, "DOCKER": DOCKER},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            seconds = time.monotonic() - began
        if done.returncode:
            raise CheckFailed(f"the image cannot be built\n{tail(done.stdout)}")
        return Build.parse(seconds, done.stdout.decode("utf-8", "replace"))

    @property
    def configuration(self) -> Any:
        return inspect(self.tag)["Config"]


def image_bytes(name: str) -> int:
    """Return the size of an image's layers, not compressed."""
    return int(inspect(name)["Size"])


@contextmanager
def image_of(project: Path, arguments: Mapping[str, str], alone: FileLock) -> Iterator[Image]:
    """Give a project's image, to be built, and remove what was built of it."""
    tag = f"inferplate-test:{os.getpid()}-{time.monotonic_ns()}"
    image = Image(project, tag, arguments, alone)
    try:
        yield image
    finally:
        subprocess.run(
            [DOCKER, "image", "rm", "--force", image.tag], capture_output=True, check=False
        )


class Container:
    """A service in a container, on a port of the host's loopback; leaving it removes it.

    ``options`` are those of ``docker run``, ``settings`` the service's.
    """

    def __init__(self, image: Image, *options: str, settings: Mapping[str, str]) -> None:
        self.port: Final = free_port()
        self._image: Final = image
        own = {
            "SERVICE_HOST": HOST,
            "SERVICE_PORT": str(self.port),
            "SERVICE_GRACEFUL_TIMEOUT": "10",
            "SERVICE_DRAIN_DELAY": "1",
            "SERVICE_ACCESS_LOG": "all",
        }
        self._options: Final = [
            "--network=host",
            "--health-interval=1s",
            *options,
            *(f"--env={name}={value}" for name, value in {**own, **settings}.items()),
        ]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._id = docker("run", "--detach", *self._options, self._image.tag).decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "--force", "--volumes", self._id)

    def wait_healthy(self) -> float:
        """Wait until the service is ready, and until the image's own health check says so.

        Returns:
            Seconds from ``docker run`` to the readiness probe's first 200.

        Raises:
            CheckFailed: it ended, or that does not come.
        """

        def running() -> bool:
            state = self.state()
            if not state["Running"]:
                raise self.failure(f"the container ended with {state['ExitCode']}")
            return True

        def ready() -> bool:
            return self.answers_ready() and running()

        def healthy() -> bool:
            return running() and self.state()["Health"]["Status"] == "healthy"

        if not wait_until(ready, _START_SECONDS, every=_POLL_SECONDS):
            raise self.failure(f"the service is not ready after {_START_SECONDS} s")
        seconds = time.monotonic() - self._began
        if not wait_until(healthy, _START_SECONDS):
            raise self.failure(f"the health check says {self.state()['Health']}")
        return seconds

    def answers_ready(self) -> bool:
        """Return whether a new connection gets a 200 from the readiness probe."""
        return answers_ready(self.port)

    def terminate(self) -> None:
        """Begin ``docker stop``."""
        command = [DOCKER, "stop", "-t", str(_STOP_SECONDS), self._id]
        self._stopping = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def wait_exit(self) -> None:
        """Wait for the end of ``docker stop``.

        Raises:
            CheckFailed: the service exited with another code than 0.
        """
        self._stopping.wait()
        if code := self.exit_code:
            raise self.failure(f"the container exited with {code} after SIGTERM")

    @property
    def exit_code(self) -> int:
        return int(self.state()["ExitCode"])

    def signal(self, name: str) -> None:
        """Send a signal to the container's first process."""
        docker("kill", f"--signal={name}", self._id)

    def wait(self) -> int:
        """Wait for the end of the container and return its exit code."""
        return int(docker("wait", self._id))

    def state(self) -> Any:
        return inspect(self._id)["State"]

    def changes(self) -> list[str]:
        """List the paths that differ from the image's."""
        lines = docker("diff", self._id).decode().splitlines()
        return [line.split(" ", 1)[1] for line in lines]

    def inside(self) -> Any:
        """Return the report of ``inside.py``, with the cost of the image's health check."""
        (kind, *command) = self._image.configuration["Healthcheck"]["Test"]
        assert kind == "CMD", "a shell would be one more process"
        python = ["exec", "--interactive", "--user=0", self._id, "python", "-I", "-B", "-"]
        return json.loads(docker(*python, *command, stdin=_INSIDE))

    def log_lines(self) -> list[str]:
        done = subprocess.run(
            [DOCKER, "logs", self._id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
        )
        return done.stdout.decode().splitlines()

    def failure(self, text: str) -> CheckFailed:
        """Make a failure that shows the end of the container's log."""
        return CheckFailed("\n".join([text, *self.log_lines()[-60:]]))


def inside_base(base: str) -> Any:
    """Return the report of ``inside.py`` from a container of the base image."""
    options = ["run", "--rm", "--interactive", "--network=host", "--entrypoint=python"]
    return json.loads(docker(*options, base, "-I", "-B", "-", stdin=_INSIDE))


def closure(declared: Sequence[str], installed: Mapping[str, Any]) -> set[str]:
    """Follow requirements to everything that they need, by normalised names.

    ``installed``: distributions by name, with what each of them requires.

    Raises:
        KeyError: something that is needed is not installed.
    """
    requires = {canonicalize_name(name): entry["requires"] for name, entry in installed.items()}
    found: set[tuple[str, str]] = set()
    pending = [(Requirement(text), "") for text in declared]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                pending += [(Requirement(text), wanted) for text in requires[name]]
    return {name for name, _ in found}


def markdown_table(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Write rows as a table whose columns are the first row's keys, numbers rounded by size."""
    if not rows:
        return
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, line in enumerate(cells):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"


def _shown(value: object) -> str:
    return f"{value:.{0 if value >= 100 else 1}f}" if isinstance(value, float) else str(value)
