"""Unix sockets, on each server: who may connect, what is asked there, and what is left."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, accepts, wait_until
from inferplate_tools.workbench import Workbench, project_environment


def connect(path: Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(path))
    return connection


def ask(connection: http.client.HTTPConnection, url: str, document: Any = None) -> tuple[int, Any]:
    """Return status and JSON of an answer."""
    body = None if document is None else json.dumps(document)
    connection.request("POST" if body else "GET", url, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def is_ready(path: Path) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return ask(connect(path), "/v2/health/ready")[0] == 200
    return False


def run(project: Path, python: str, settings: Mapping[str, str], *command: str) -> tuple[int, str]:
    """Run Python in a project; return its exit code and what it wrote."""
    done = subprocess.run(
        [python, *command],
        cwd=project,
        env=project_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_service_on_a_unix_socket(
    variant: Variant,
    copy_of: Callable[[Variant], Path],
    bench: Workbench,
    covers: Covers,
    tmp_path: Path,
) -> None:
    covers("a Unix socket", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    golden = Golden.of(project)
    path = tmp_path / "service.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    settings = {
        "SERVICE_UNIX_SOCKET": os.path.relpath(path, project),
        "SERVICE_WORKERS": "2" if variant.server in ("granian", "uvicorn") else "1",
        "SERVICE_TRUSTED_PROXIES": "unix",
        "SERVICE_DRAIN_DELAY": "1",
    }
    with Service(project, bench.python, settings) as service:
        assert wait_until(lambda: service.ended or is_ready(path), 60)
        assert not service.ended, service.log.read_text(encoding="utf-8")
        assert path.stat().st_mode & 0o777 == 0o660
        assert not accepts(service.port)
        silent, used, begun = connect(path), connect(path), connect(path)
        begun.sock.sendall(b"POST /predict HT")
        for _ in range(3):
            status, answer = ask(used, "/predict", golden.typed_request)
            assert (status, len(answer["predictions"])) == (200, len(golden.instances))
        # another service does not take the socket away
        code, text = run(project, bench.python, settings, "-m", "service")
        assert (code, "in use" in text) == (1, True), text
        assert is_ready(path)
        assert run(project, bench.python, settings, "-I", "-S", "healthcheck.py")[0] == 0
        code, text = run(project, bench.python, {}, "tests/managed/ask.py", f"unix:{path}")
        assert (code, "predictions" in text) == (0, True), text
        began = time.monotonic()
        service.terminate()
        assert wait_until(lambda: ask(connect(path), "/v2/health/ready")[0] == 503, 2)
        service.wait_exit()
        assert time.monotonic() - began < 9  # it does not wait for those without a request
        for connection in (silent, used, begun):
            connection.close()
    assert not path.exists()
