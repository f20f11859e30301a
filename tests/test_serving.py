"""What every server owes the service: drain, exit codes, replaced workers, failures, logs, metrics.

Each server runs the small application in ``serving/`` in place of ``service.main``, so that the
tests can have it sleep, die and fail at will. All that is around it is the service's own.
"""

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from inferplate.template.source import template_root
from inferplate_tools.service import free_port

pytestmark = pytest.mark.slow

TEMPLATE = template_root() / "template"
APPLICATION = Path(__file__).parent / "serving"
IGNORED = shutil.ignore_patterns("__pycache__")
SERVERS = ("uvicorn", "granian", "gunicorn", "hypercorn")


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per server that holds the package ``service``."""
    found = {}
    for server in SERVERS:
        package = tmp_path_factory.mktemp(server) / "service"
        package.mkdir()
        neutral = TEMPLATE / "service/src/service"
        for layer in ("core", "ops", "scaffold"):
            shutil.copytree(neutral / layer, package / layer, ignore=IGNORED)
        handler = TEMPLATE / "handlers/predict/src/service"
        for module in ("ops/endpoint_settings.py", "scaffold/arguments.py"):
            shutil.copy(handler / module, package / module)
        shutil.copy(TEMPLATE / "handlers/none/src/service/commands.py", package)
        shutil.copy(TEMPLATE / "accelerators/cpu/src/service/ops/accelerator.py", package / "ops")
        for module in ("__init__", "__main__", "interfaces", "settings"):
            shutil.copy(neutral / f"{module}.py", package)
        shutil.copy(TEMPLATE / f"servers/{server}/src/service/server.py", package)
        shutil.copy(APPLICATION / "main.py", package)
        shutil.copytree(APPLICATION / "models", package.parent / "models")
        found[server] = package.parent
    return found


class Service:
    """A running ``python -m service``."""

    def __init__(
        self, project: Path, folder: Path, environment: dict[str, str], descriptors: int = 0
    ) -> None:
        command = [sys.executable, "-m", "service"]
        if descriptors:
            command = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors), *command]
        self.port = int(environment["SERVICE_PORT"])
        self.record = Path(environment["RECORD"])
        self.log = folder / "log"
        self.context: ssl.SSLContext | None = None
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment, "PYTHONPATH": str(project)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        if self.context:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=timeout, context=self.context
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path: str, timeout: float = 20) -> tuple[int, str]:
        connection = self.connect(timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def wait_ready(self, seconds: float = 30) -> None:
        assert eventually(lambda: self.is_ready(), seconds), self.text

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.text
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/v2/health/ready", 2)[0] == 200
        return False

    def pids(self, kind: str) -> set[int]:
        return {int(file.name.rpartition("-")[2]) for file in self.record.glob(f"{kind}-*")}

    def wait_workers(self, count: int) -> set[int]:
        """Wait until so many workers answer and return their pids."""
        seen: set[int] = set()

        def all_seen() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                seen.add(int(self.get("/pid", 5)[1]))
            return len(seen) == count

        assert eventually(all_seen, 30), self.text
        return seen

    def end(self, number: int, seconds: float) -> tuple[int, float]:
        """Send a signal; return exit code and seconds until the end."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds), time.monotonic() - began
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s\n{self.text}")


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def all_dead(pids: set[int]) -> bool:
    return not any(map(alive, pids))


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=(1, 2))
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


Start = Callable[..., Service]


@pytest.fixture
def start(server: str, workers: int, projects: dict[str, Path], tmp_path: Path) -> Iterator[Start]:
    started: list[Service] = []

    def begin(descriptors: int = 0, **environment: str) -> Service:
        folder = tmp_path / f"run{len(started)}"
        record = folder / "record"
        temporary = folder / "tmp"
        record.mkdir(parents=True)
        temporary.mkdir()
        service = Service(
            projects[server],
            folder,
            {
                "SERVICE_MODEL_DIR": str(projects[server] / "models"),
                "SERVICE_PORT": str(free_port()),
                "SERVICE_WORKERS": str(workers),
                "SERVICE_GRACEFUL_TIMEOUT": "5",
                "RECORD": str(record),
                "TMPDIR": str(temporary),
                "HOME": "/nonexistent",
                **environment,
            },
            descriptors,
        )
        started.append(service)
        return service

    yield begin
    for service in started:
        pids = service.pids("imported")
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
        assert eventually(functools.partial(all_dead, pids), 15), "workers outlive main"


def in_background(call: Callable[[], Any]) -> "Future[Any]":
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future


def test_serves_from_workers_of_its_own(start: Start, server: str, workers: int) -> None:
    service = start()
    service.wait_ready()
    pids = service.wait_workers(workers)
    if workers > 1:
        assert service.process.pid not in service.pids("imported")
    assert service.pids("imported") == service.pids("started") == pids
    code, seconds = service.end(signal.SIGTERM, 10)
    assert (code, service.pids("stopped")) == (0, pids), service.text
    assert seconds < 3.5
    assert not list((service.log.parent / "tmp").iterdir()), "files are left behind"
    assert {path.name for path in service.log.parent.iterdir()} == {"log", "record", "tmp"}


def test_logs_through_the_root_logger_without_access_log(start: Start) -> None:
    service = start()
    service.wait_ready()
    for _ in range(5):
        service.get("/pid")
    service.end(signal.SIGTERM, 10)
    lines = [json.loads(line) for line in service.text.splitlines()]
    assert lines
    assert not [line for line in lines if re.search("GET|/pid", line["message"])]


def test_log_level(start: Start) -> None:
    service = start(SERVICE_LOG_LEVEL="error")
    service.wait_ready()
    service.end(signal.SIGTERM, 10)
    assert service.text == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_drains(start: Start, workers: int, number: int) -> None:
    service = start(SERVICE_DRAIN_DELAY="1")
    service.wait_ready()
    pids = service.wait_workers(workers)
    slow = [in_background(lambda: service.get("/slow?seconds=1.5")) for _ in range(4)]
    time.sleep(0.3)
    ending = in_background(lambda: service.end(number, 10))
    time.sleep(0.3)
    during = [service.get("/v2/health/ready")[0] for _ in range(4)]
    assert during == [503] * 4
    assert service.get("/pid")[0] == 200
    assert [future.result() for future in slow] == [(200, "done")] * 4
    code, seconds = ending.result()
    assert code == 0, service.text
    assert 1 <= seconds < 4
    assert service.pids("stopped") == pids


@pytest.mark.parametrize("server", ["gunicorn"], indirect=True)
def test_signals_that_gunicorn_takes_for_something_else_do_not_drain(start: Start) -> None:
    service = start()
    service.wait_ready()
    for number in (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        service.process.send_signal(number)
        time.sleep(0.5)
        assert service.is_ready()
    assert service.end(signal.SIGTERM, 10)[0] == 0, service.text


def test_ctrl_c_reaches_the_group_and_drains_all_the_same(start: Start, workers: int) -> None:
    service = start(SERVICE_DRAIN_DELAY="1")
    service.wait_ready()
    pids = service.wait_workers(workers)
    slow = in_background(lambda: service.get("/slow?seconds=1.5"))
    time.sleep(0.3)
    os.killpg(service.process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert service.get("/v2/health/ready")[0] == 503
    assert slow.result() == (200, "done")
    assert service.process.wait(5) == 0, service.text
    assert service.pids("stopped") == pids


def test_requests_finish_without_drain_delay(start: Start, workers: int) -> None:
    """All workers but one are idle: the busy one must not be cut."""
    service = start()
    service.wait_ready()
    service.wait_workers(workers)
    slow = in_background(lambda: service.get("/slow?seconds=2"))
    time.sleep(0.4)
    code, _ = service.end(signal.SIGTERM, 10)
    assert slow.result() == (200, "done")
    assert code == 0
    assert len(service.pids("stopped")) == workers


def test_second_signal_skips_the_drain_delay(start: Start) -> None:
    service = start(SERVICE_DRAIN_DELAY="20")
    service.wait_ready()
    service.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    code, seconds = service.end(signal.SIGTERM, 10)
    assert code == 0
    assert seconds < 4


def test_new_connections_are_refused_after_the_drain(start: Start, workers: int) -> None:
    service = start()
    service.wait_ready()
    service.wait_workers(workers)
    slow = in_background(lambda: service.get("/slow?seconds=3"))
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    time.sleep(1.7)
    with pytest.raises(OSError, match="refused"):
        service.get("/pid", 0.5)
    assert slow.result() == (200, "done")
    assert service.process.wait(10) == 0


@pytest.mark.parametrize("path", ["/slow?seconds=30", "/block"])
def test_graceful_timeout_limits_the_exit(start: Start, server: str, path: str) -> None:
    service = start(SERVICE_GRACEFUL_TIMEOUT="1")
    service.wait_ready()
    stuck = in_background(lambda: service.get(path))
    time.sleep(0.3)
    code, seconds = service.end(signal.SIGTERM, 10)
    assert seconds < 3.5
    assert code == 0, service.text
    if path != "/block" and server != "granian":  # Granian kills a worker, and so must `process`
        assert service.pids("stopped") == service.pids("started"), "the server itself did not end"
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert stuck.result()[0] >= 500


def test_idle_connections_do_not_hold_the_exit(start: Start) -> None:
    service = start()
    service.wait_ready()
    used, unused = service.connect(), service.connect()
    used.request("GET", "/pid")
    used.getresponse().read()
    unused.connect()
    code, seconds = service.end(signal.SIGTERM, 10)
    assert code == 0
    assert seconds < 8


def test_idle_connections_are_closed_after_their_time(start: Start, workers: int) -> None:
    """The time is longer than what uvicorn, gunicorn and hypercorn have by themselves."""
    if workers > 1:
        pytest.skip("workers do not differ in it")
    service = start(SERVICE_KEEP_ALIVE_TIMEOUT="7")
    service.wait_ready()
    connection = service.connect()
    connection.request("GET", "/pid")
    connection.getresponse().read()
    kept = connection.sock
    time.sleep(6)
    connection.request("GET", "/pid")
    assert connection.getresponse().read()
    assert connection.sock is kept
    began = time.monotonic()
    assert kept.recv(1) == b""
    assert 6 < time.monotonic() - began < 10


def test_dead_worker_is_replaced(start: Start, workers: int) -> None:
    service = start()
    service.wait_ready()
    pids = service.wait_workers(workers)
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.get("/kill")
    if service.process.pid in pids:
        assert service.process.wait(5) == -signal.SIGKILL
        return
    assert eventually(lambda: len(service.pids("started")) == workers + 1, 15), service.text
    replacement = service.pids("started") - pids
    assert eventually(lambda: {int(service.get("/pid")[1]) for _ in range(8)} >= replacement, 15)
    assert service.end(signal.SIGTERM, 10)[0] == 0, service.text


def test_worker_told_to_stop_is_replaced(start: Start, workers: int) -> None:
    service = start()
    service.wait_ready()
    pids = service.wait_workers(workers)
    if service.process.pid in pids:
        pytest.skip("the only worker is the main process")
    os.kill(min(pids), signal.SIGTERM)
    assert eventually(lambda: min(pids) in service.pids("stopped"), 15), service.text
    assert eventually(lambda: len(service.pids("started")) == workers + 1, 15), service.text
    assert eventually(service.is_ready, 10)
    assert service.end(signal.SIGTERM, 10)[0] == 0, service.text
    assert len(service.pids("stopped")) == workers + 1


def test_worker_that_cannot_react_is_killed(start: Start, workers: int) -> None:
    service = start(SERVICE_GRACEFUL_TIMEOUT="1")
    service.wait_ready()
    if service.process.pid in service.wait_workers(workers):
        pytest.skip("the only worker is the main process")
    in_background(lambda: service.get("/hold"))
    time.sleep(0.3)
    code, seconds = service.end(signal.SIGTERM, 10)
    assert code == 0, service.text
    assert seconds < 5


def test_failure_after_start_ends_the_service(start: Start) -> None:
    began = time.monotonic()
    service = start(MODE="load_fails", SERVICE_DRAIN_DELAY="20")
    assert service.process.wait(15) == 1
    assert "service: the model did not load" in service.text
    assert time.monotonic() - began < 10
    assert len(service.pids("imported")) <= 2


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("import_error", "RuntimeError: broken on purpose"),
        ("lifespan_fails", "the lifespan failed"),
        ("lifespan_raises", "the lifespan raised"),
    ],
)
def test_failure_at_start_ends_the_service(
    start: Start, workers: int, mode: str, message: str
) -> None:
    service = start(MODE=mode, SERVICE_DRAIN_DELAY="20")
    assert service.process.wait(15) == 1, service.text
    assert re.search(f"^service: .*{message}", service.text, re.M), service.text
    assert len(service.pids("imported")) <= workers


def test_late_import_error_is_no_loop(start: Start, workers: int) -> None:
    service = start(MODE="import_error", BEFORE="6", SERVICE_DRAIN_DELAY="20")
    assert service.process.wait(25) == 1, service.text
    assert len(service.pids("imported")) <= workers


def test_slow_import_is_not_killed(start: Start, workers: int) -> None:
    service = start(MODE="slow_import")
    service.wait_ready(30)
    service.wait_workers(workers)
    assert len(service.pids("imported")) == workers
    assert service.end(signal.SIGTERM, 10)[0] == 0


def test_signal_during_the_start(start: Start) -> None:
    service = start(MODE="slow_import")
    assert eventually(lambda: bool(service.pids("imported")), 10)
    code, _ = service.end(signal.SIGTERM, 15)
    assert code == 0, service.text


def test_signal_before_all_workers_serve(start: Start, workers: int) -> None:
    service = start(MODE="slow_import", SERVICE_DRAIN_DELAY="8", SERVICE_LOG_LEVEL="error")
    assert eventually(lambda: len(service.pids("imported")) == workers, 10)
    code, _ = service.end(signal.SIGTERM, 20)
    assert (code, service.text) == (0, "")
    assert len(service.pids("imported")) == workers


def test_busy_port_is_one_clear_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        service = start(SERVICE_PORT=str(other.getsockname()[1]))
        assert service.process.wait(10) == 1
    starting, told = service.text.splitlines()
    assert json.loads(starting)["message"].startswith("starting at")
    assert re.search("^service: .*in use", told)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    names = folder / "certificate.pem", folder / "key.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    address = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *options, *address, "-out", names[0], "-keyout", names[1]],  # noqa: S607
        check=True,
        capture_output=True,
    )
    return names


def test_tls(start: Start, workers: int, certificate: tuple[Path, Path]) -> None:
    service = start(
        SERVICE_TLS_CERTIFICATE=str(certificate[0]), SERVICE_TLS_KEY=str(certificate[1])
    )
    service.context = ssl.create_default_context(cafile=certificate[0])
    service.wait_ready()
    service.wait_workers(workers)
    slow = in_background(lambda: service.get("/slow?seconds=1.5"))
    time.sleep(0.4)
    assert service.end(signal.SIGTERM, 10)[0] == 0, service.text
    assert slow.result() == (200, "done")


def test_unusable_certificate_ends_the_service(
    start: Start, certificate: tuple[Path, Path]
) -> None:
    service = start(
        SERVICE_TLS_CERTIFICATE=str(certificate[0]), SERVICE_TLS_KEY=str(certificate[0])
    )
    assert service.process.wait(15) == 2, service.text
    (told,) = service.text.splitlines()
    assert told.startswith("SERVICE_TLS_CERTIFICATE and SERVICE_TLS_KEY cannot be used: ")


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
@pytest.mark.parametrize("workers", [1], indirect=True)
def test_key_with_a_passphrase_is_refused_and_not_asked_for(
    start: Start, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    locked = tmp_path / "locked.pem"
    subprocess.run(
        [
            *("openssl", "pkey", "-aes256", "-passout", "pass:secret"),
            *("-in", certificate[1], "-out", locked),
        ],
        check=True,
        capture_output=True,
    )
    service = start(SERVICE_TLS_CERTIFICATE=str(certificate[0]), SERVICE_TLS_KEY=str(locked))
    assert service.process.wait(15) != 0
    assert "SERVICE_TLS_KEY cannot be used: the key has a passphrase" in service.text


def test_ipv6(start: Start, workers: int) -> None:
    service = start(SERVICE_HOST="::1")
    connection = http.client.HTTPConnection("::1", service.port, timeout=5)

    def answers() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().read() == b"yes"
        connection.close()
        return False

    assert eventually(answers, 15), service.text
    connection.close()
    assert service.end(signal.SIGTERM, 10)[0] == 0


@pytest.mark.parametrize("workers", [1], indirect=True)
def test_it_listens_on_its_address_only(start: Start) -> None:
    """Linux has all of 127.0.0.0/8 on the loopback interface."""
    service = start(SERVICE_HOST="127.0.0.2")

    def answers(host: str) -> bool:
        connection = http.client.HTTPConnection(host, service.port, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    assert eventually(lambda: answers("127.0.0.2"), 15), service.text
    assert not answers("127.0.0.1")
    assert service.end(signal.SIGTERM, 10)[0] == 0


@pytest.mark.parametrize("workers", [3], indirect=True)
def test_as_many_workers_as_are_set(start: Start) -> None:
    service = start()
    service.wait_ready()
    pids = service.wait_workers(3)
    assert service.pids("imported") == pids
    assert service.end(signal.SIGTERM, 10)[0] == 0


def test_metrics_are_those_of_all_workers(start: Start, workers: int) -> None:
    service = start()
    service.wait_ready()
    asked = 0
    seen: set[int] = set()
    while len(seen) < workers or asked < 20:
        seen.add(int(service.get("/pid")[1]))
        asked += 1
        assert asked < 2000
    for _ in range(5):
        text = service.get("/metrics")[1]
        assert f"answers_total {float(asked)}" in text
        assert f"live_workers {float(workers)}" in text
    if service.process.pid in seen:
        return
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.get("/kill")
    assert eventually(lambda: len(service.pids("started")) == workers + 1, 15), service.text
    assert eventually(lambda: f"live_workers {float(workers)}" in service.get("/metrics")[1], 15), (
        service.get("/metrics")[1]
    )
    if workers > 1:
        assert f"answers_total {float(asked)}" in service.get("/metrics")[1]


def test_workers_end_when_the_main_process_is_killed(start: Start, workers: int) -> None:
    service = start()
    service.wait_ready()
    pids = service.wait_workers(workers)
    service.process.kill()
    service.process.wait()
    assert eventually(lambda: all_dead(pids), 10)


def test_the_application_names_the_server(start: Start) -> None:
    service = start()
    service.wait_ready()
    connection = service.connect()
    connection.request("GET", "/pid")
    headers = connection.getresponse().headers
    assert headers.get_all("server") == ["ours"]
    assert len(headers.get_all("date") or []) == 1
