"""``healthcheck.py``, as a container runs it: what it asks, and when it exits with 0."""

import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "healthcheck.py"
OPENSSL = shutil.which("openssl")


@contextmanager
def server(
    status: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Answer the readiness probe with a status, and everything else with 200 or 503."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ready = self.path == "/v2/health/ready"
            self.send_response(status if ready else 200 if status != 200 else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer((host, 0), Handler)
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield listening.server_port
    listening.shutdown()
    listening.server_close()
    thread.join()


def check(port: int | str, **environment: str) -> int:
    """Return the exit code of the script."""
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-I", "-S", str(SCRIPT)],
        env={"SERVICE_PORT": str(port), **environment},
        capture_output=True,
        check=False,
        timeout=20,
    ).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1), (500, 1)])
def test_only_a_service_that_is_ready_is_healthy(status: int, code: int) -> None:
    with server(status) as port:
        assert check(port) == code


def test_nothing_that_listens_is_not_healthy() -> None:
    with server(200) as port:
        pass
    assert check(port) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104
def test_it_asks_where_a_service_for_all_listens(host: str) -> None:
    with server(200) as port:
        assert check(port, SERVICE_HOST=host) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_it_asks_the_address_that_is_set() -> None:
    with server(200, "127.0.0.2") as port:
        assert check(port, SERVICE_HOST="127.0.0.2") == 0
        assert check(port) == 1


def test_port_that_kubernetes_sets_is_not_the_services() -> None:
    default = check("")  # a service may listen there, while it is worked on
    with server(200) as port:
        assert check(f"tcp://127.0.0.1:{port}") == default


@pytest.mark.parametrize("variable", ["AIP_HTTP_PORT", "PORT"])
def test_port_may_be_the_platforms(variable: str) -> None:
    with server(200) as port:
        assert check("", **{variable: str(port)}) == 0
        assert check("1", **{variable: str(port)}) == 1


@pytest.mark.skipif(not OPENSSL, reason="openssl makes the certificate")
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_speaks_tls_where_the_service_does(tmp_path: Path, status: int, code: int) -> None:
    """The certificate is for other names, and by an authority that nobody trusts."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    assert OPENSSL
    subprocess.run(  # noqa: S603 - for a test
        [
            *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=elsewhere.example", "-out", certificate, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server(status, tls=context) as port:
        assert check(port, SERVICE_TLS_CERTIFICATE=str(certificate)) == code
        assert check(port) == 1
