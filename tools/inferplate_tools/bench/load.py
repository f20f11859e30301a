"""The load generators: wrk for a closed loop, h2load for an open one.

Closed: every connection sends its next request when it has the answer to the last, so that a slow
server is asked less. Open: requests leave at their times whether answers have come or not, so that
a stall is felt by all that would have arrived in it (no coordinated omission).
"""

import json
import math
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from inferplate.errors import InferplateError
from inferplate_tools.bench.server import Server
from inferplate_tools.client import HOST
from inferplate_tools.errors import CheckFailed

TOOLS: Final = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""The load generators, and the Debian packages that have them."""

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_TURN_SECONDS: Final = 0.5
"""Between two requests of one connection of an open loop. An answer may take this long before the
next request of its connection is late."""
_LONGEST_PERIOD_MS: Final = 20
_RATE_TOLERANCE: Final = 0.02
_PROBE_SECONDS: Final = 0.1
_PATIENCE: Final = 60
_OPEN_FILES: Final = 65_536


@dataclass(frozen=True)
class Request:
    """A POST."""

    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Closed:
    """A number of connections, each busy all the time."""

    connections: int

    def __str__(self) -> str:
        return f"{self.connections} connection{'s' * (self.connections > 1)}"


@dataclass(frozen=True)
class Open:
    """Requests per second, evenly spread."""

    rate: float

    def __str__(self) -> str:
        return f"{self.rate:.0f} requests/s offered"


@dataclass(frozen=True)
class Sample:
    """What one measurement showed.

    ``rate``: answers per second. ``cpu_us``: processor time of the server's process tree per
    request in microseconds. ``p50_ms`` to ``max_ms``: latencies. ``bad``: requests without an
    answer of status 2xx. ``probe_ms``: the slowest readiness probe. ``late``: an open loop was not
    quite open, as answers took longer than the connections could wait: latencies are lower bounds.
    """

    requests: int
    rate: float
    cpu_us: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    bad: int
    probe_ms: float
    late: bool = False


def require(tools: Collection[str]) -> None:
    """Check that load generators are installed.

    Raises:
        InferplateError: one is not; the text says which package has it.
    """
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        packages = " ".join(TOOLS[tool] for tool in missing)
        raise InferplateError(
            f"{' and '.join(missing)} not found: install the package {packages} "
            f"(apt-get install {packages})"
        )


def allow_connections() -> None:
    """Raise the limit of open files, of this process and of what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def measure(
    server: Server,
    request: Request,
    load: Closed | Open,
    *,
    seconds: float,
    processors: Collection[int],
) -> Sample:
    """Put load on a server for some seconds and see what that costs it.

    Raises:
        CheckFailed: the load generator failed.
    """
    with tempfile.TemporaryDirectory(prefix="inferplate-") as folder, _Probe(server) as probe:
        body = Path(folder, "body")
        body.write_bytes(request.body)
        before = server.cpu_seconds()
        if isinstance(load, Closed):
            found = _closed(server.port, request, body, load, seconds, processors)
        else:
            found = _open(server.port, request, body, load, seconds, processors)
        used = server.cpu_seconds() - before
    if not found.requests:
        raise CheckFailed(f"no request of {load} was answered: {server.last_line()}")
    return Sample(
        requests=found.requests,
        rate=(found.requests - found.bad) / found.seconds,
        cpu_us=used / found.sent * 1e6,
        p50_ms=found.p50_ms,
        p90_ms=found.p90_ms,
        p99_ms=found.p99_ms,
        max_ms=found.max_ms,
        bad=found.bad,
        probe_ms=probe.slowest_ms,
        late=found.late,
    )


def pacing(rate: float) -> tuple[int, int, int]:
    """Find how connections must be opened for requests to be evenly spread.

    Returns:
        How many to open at once, the milliseconds between, and how many in all.
    """
    longest = max(_LONGEST_PERIOD_MS, round(1000 / rate))
    pairs = [(max(1, round(rate * ms / 1000)), ms) for ms in range(1, longest + 1)]
    errors = {pair: abs(pair[0] * 1000 / pair[1] / rate - 1) for pair in pairs}
    near = [pair for pair in pairs if errors[pair] <= _RATE_TOLERANCE]
    group, period = near[0] if near else min(pairs, key=lambda pair: errors[pair])
    turns = max(1, round(_TURN_SECONDS * 1000 / period))
    return group, period, group * turns


def offered(rate: float) -> float:
    """Return the rate that is really offered: the nearest that can be evenly spread."""
    group, period, _ = pacing(rate)
    return group * 1000 / period


@dataclass(frozen=True)
class _Found:
    sent: int
    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    bad: int
    late: bool = False


@dataclass
class _Probe:
    """Asks for readiness all the time, as an orchestrator would; knows the slowest answer."""

    server: Server
    slowest_ms: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "_Probe":
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(_PROBE_SECONDS):
            began = time.perf_counter()
            alive = False
            with suppress(OSError):
                alive = self.server.is_alive()
            taken = (time.perf_counter() - began) * 1000 if alive else math.inf
            self.slowest_ms = max(self.slowest_ms, taken)


def _closed(
    port: int,
    request: Request,
    body: Path,
    load: Closed,
    seconds: float,
    processors: Collection[int],
) -> _Found:
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    options = ["-t1", f"-c{load.connections}", f"-d{seconds:g}s", f"--timeout={_PATIENCE}s"]
    url = f"http://{HOST}:{port}{request.path}"
    command = ["wrk", *options, "-s", str(_SCRIPT), url, "--", str(body), *headers]
    printed = _run(command, processors, seconds)
    found = json.loads(printed.strip().rpartition("\n")[2])
    return _Found(
        sent=found["requests"],
        requests=found["requests"],
        seconds=found["microseconds"] / 1e6,
        p50_ms=found["p50"] / 1000,
        p90_ms=found["p90"] / 1000,
        p99_ms=found["p99"] / 1000,
        max_ms=found["max"] / 1000,
        bad=found["refused"] + found["broken"],
    )


def _open(
    port: int,
    request: Request,
    body: Path,
    load: Open,
    seconds: float,
    processors: Collection[int],
) -> _Found:
    group, period, connections = pacing(load.rate)
    rate = group * 1000 / period
    count = math.ceil(rate * (seconds + _TURN_SECONDS) / connections) * connections
    log = body.with_name("log")
    headers = [
        part for name, value in request.headers.items() for part in ("-H", f"{name}: {value}")
    ]
    pace = ["-r", str(group), "--rate-period", f"{period}ms", "--rps", f"{rate / connections:.6f}"]
    size = ["-c", str(connections), "-n", str(count), "-d", str(body), "--log-file", str(log)]
    url = f"http://{HOST}:{port}{request.path}"
    _run(["h2load", "--h1", *pace, *size, *headers, url], processors, seconds)
    return read_log(log.read_text(), count)


def read_log(text: str, expected: int) -> _Found:
    """Sum up h2load's log, less the time in which its connections are opened.

    Each line has the time of sending and the latency, in microseconds, and between them the status.

    Raises:
        CheckFailed: nothing is left.
    """
    rows = np.array([line.split("\t")[:3] for line in text.splitlines()], dtype=np.int64)
    rows = rows.reshape(-1, 3)
    lost = expected - len(rows)
    if len(rows):
        rows = rows[rows[:, 0] >= rows[:, 0].min() + _TURN_SECONDS * 1e6]
    if not len(rows):
        raise CheckFailed("the open loop sent nothing after its start")
    sent, status, latency = rows.T
    p50, p90, p99, most = np.percentile(latency, [50, 90, 99, 100]) / 1000
    return _Found(
        sent=expected,
        requests=len(rows),
        seconds=max(1, int((sent + latency).max() - sent.min())) / 1e6,
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        max_ms=float(most),
        bad=int(np.count_nonzero((status < 200) | (status >= 300))) + lost,
        late=bool(most > _TURN_SECONDS * 1000),
    )


def _run(command: list[str], processors: Collection[int], seconds: float) -> str:
    pinned = ["taskset", "--cpu-list", ",".join(map(str, sorted(processors))), *command]
    try:
        done = subprocess.run(  # noqa: S603 - a load generator, with our own arguments
            pinned, capture_output=True, text=True, timeout=seconds + _PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"{command[0]} did not end: requests are not answered") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise CheckFailed(f"{command[0]} exited with {done.returncode}: {reason}")
    return done.stdout
