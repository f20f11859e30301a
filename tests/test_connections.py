"""How long, how large and how many: the limits of each server, before the application is asked.

As in ``test_serving``, each server runs the small application in ``serving/``. What the service
itself adds is asked of one real service for each server.
"""

import base64
import contextlib
import http.client
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import SERVER_VARIANTS, Covers
from test_serving import Service as StandIn
from test_serving import (
    Start,
    certificate,
    eventually,
    in_background,
    projects,
    server,
    start,
    workers,
)

from inferplate.template.variants import Variant
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

__all__ = [
    "certificate",
    "projects",
    "server",
    "start",
    "workers",
]  # the fixtures of `test_serving`

pytestmark = pytest.mark.slow

HEAD = b"GET /pid HTTP/1.1\r\nHost: a\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
TLS = b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"
ONE_WORKER = pytest.mark.parametrize("workers", [1])
TIMES = {"SERVICE_HEADER_TIMEOUT": "1.5", "SERVICE_KEEP_ALIVE_TIMEOUT": "2"}


def connect(service: StandIn | Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def exchange(service: StandIn | Service, data: bytes) -> bytes:
    """Send bytes, and return what comes until the connection is closed."""
    with connect(service) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return b"".join(chunks(connection))


def chunks(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            yield chunk


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Return what comes, up to some bytes. A response may come in several packets."""
    answer = b""
    for chunk in chunks(connection):
        answer += chunk
        if end in answer:
            return answer
    pytest.fail(f"closed after {answer!r}")


def read_response(connection: socket.socket) -> int:
    """Read a whole response, which may come in several packets, and return its status."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        while connection.recv(4096):
            pass  # the rest of a response
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@ONE_WORKER
@pytest.mark.parametrize(
    ("size", "status"), [(9_000, 200), (60_000, 200), (70_000, 431), (200_000, 431)]
)
def test_size_of_one_header(start: Start, server: str, size: int, status: int) -> None:
    if (server, size) == ("granian", 70_000):
        pytest.skip("granian 2.8 refuses for certain what is twice as large as the limit")
    service = start()
    service.wait_ready()
    answer = exchange(service, HEAD + b"Connection: close\r\nX: " + b"a" * size + b"\r\n\r\n")
    assert statuses(answer) in ([status], [])
    assert statuses(answer) or status == 431  # an answer may be lost when much is unread


@ONE_WORKER
def test_size_of_the_head_is_that_of_all_headers_together(start: Start, server: str) -> None:
    service = start()
    service.wait_ready()
    size = 2000 if server == "granian" else 1000
    many = b"".join(b"X-%d: %s\r\n" % (number, b"a" * size) for number in range(80))
    assert statuses(exchange(service, HEAD + b"Connection: close\r\n" + many + b"\r\n")) == [431]
    large_line = b"GET /pid?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(service, large_line)) == [200]
    # What the servers themselves do; docs/servers.md says so.
    too_large = {"uvicorn": 431, "granian": 414, "gunicorn": 414, "hypercorn": 431}
    line = b"GET /pid?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(service, line)) == [too_large[server]], version(server)


@ONE_WORKER
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "hypercorn"], indirect=True)
@pytest.mark.parametrize(("length", "status"), [(714, 200), (723, 431)])
def test_the_names_and_separators_of_headers_count(start: Start, length: int, status: int) -> None:
    service = start()
    service.wait_ready()
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * length) for number in range(10, 100))
    answer = exchange(service, HEAD + b"Connection: close\r\n" + fields + b"\r\n")
    assert statuses(answer) == [status]


@ONE_WORKER
@pytest.mark.parametrize(
    "begin",
    [
        HEAD + b"X: ",
        b"GET /",
        b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
    ids=["header", "line", "trailer"],
)
def test_an_endless_head_is_not_read_to_its_end(start: Start, begin: bytes) -> None:
    service = start()
    service.wait_ready()
    sent = 0
    with connect(service) as connection:
        connection.sendall(begin)
        with contextlib.suppress(ConnectionError):
            while sent < 100:
                connection.sendall(bytes(2**20).replace(b"\0", b"a"))
                sent += 1
    assert sent < 20
    assert service.is_ready()


@ONE_WORKER
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_time_for_a_head(start: Start, server: str, used: bool) -> None:
    idle = "2" if server == "granian" else "60"  # granian has one time for both
    service = start(**{**TIMES, "SERVICE_KEEP_ALIVE_TIMEOUT": idle})
    service.wait_ready()
    begun = {"part": b"GET /pid HT", "slow": b"GET /pid HTTP/1.1\r\nX: "}
    if not used:
        begun["silent"] = b""
    connections = {name: connect(service) for name in begun}
    for name, connection in connections.items():
        if used:
            connection.sendall(HEAD + b"\r\n")
            assert read_response(connection) == 200
        connection.sendall(begun[name])

    def all_closed() -> bool:
        with contextlib.suppress(ConnectionError):
            connections["slow"].sendall(b"a")
        return all(map(is_closed, connections.values()))

    time.sleep(0.8)
    assert not any(map(is_closed, connections.values()))
    assert eventually(all_closed, 4)


@ONE_WORKER
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "hypercorn"], indirect=True)
def test_time_for_a_head_that_began_before_the_last_response(start: Start) -> None:
    service = start(**{**TIMES, "SERVICE_KEEP_ALIVE_TIMEOUT": "60"})
    service.wait_ready()
    with connect(service) as connection:
        connection.sendall(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.4)
        connection.sendall(HEAD)
        assert read_response(connection) == 200
        time.sleep(0.5)
        assert not is_closed(connection)
        assert eventually(lambda: is_closed(connection), 4)


@ONE_WORKER
def test_requests_in_time_are_left_alone(start: Start) -> None:
    service = start(**TIMES)
    service.wait_ready()
    with connect(service) as connection:
        for _ in range(3):
            connection.sendall(
                b"POST /slow?seconds=1.8 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
            )
            connection.sendall(b"\r\n1")
            time.sleep(1.8)
            connection.sendall(b"2")
            assert statuses(read_until(connection, b"done")) == [200]
            time.sleep(0.5)


@ONE_WORKER
def test_tls_and_http2(start: Start, server: str, certificate: tuple[Path, Path]) -> None:
    """What the servers themselves do; docs/servers.md says so."""
    files = {"SERVICE_TLS_CERTIFICATE": certificate[0], "SERVICE_TLS_KEY": certificate[1]}
    service = start(**TIMES, **{name: str(path) for name, path in files.items()})
    service.context = ssl.create_default_context(cafile=certificate[0])
    service.wait_ready()
    context = ssl.create_default_context(cafile=certificate[0])
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(connect(service), server_hostname="127.0.0.1") as connection:
        assert (connection.selected_alpn_protocol() == "h2") is (server == "hypercorn"), version(
            server
        )
    with connect(service) as silent, connect(service) as begun:
        begun.sendall(b"\x16\x03\x01\x02")
        closed = eventually(lambda: is_closed(silent) and is_closed(begun), 4)
    assert closed is (server == "hypercorn"), version(server)


def test_more_connections_than_descriptors(start: Start) -> None:
    service = start(descriptors=64, SERVICE_HEADER_TIMEOUT="3")
    service.wait_ready()
    silent = [connect(service) for _ in range(100)]
    assert service.get("/v2/health/ready", 4) == (200, "yes")
    for connection in silent:
        connection.close()
    assert service.end(signal.SIGTERM, 10)[0] == 0
    assert "Too many open files" not in service.text


@ONE_WORKER
def test_a_connection_with_a_request_does_not_give_way(start: Start) -> None:
    service = start(SERVICE_MAX_CONNECTIONS="4")
    service.wait_ready()
    slow = [in_background(lambda: service.get("/slow?seconds=2")) for _ in range(3)]
    time.sleep(0.5)
    silent = [connect(service) for _ in range(6)]
    assert service.get("/v2/health/ready") == (200, "yes")
    assert any(map(is_closed, silent))
    assert [future.result() for future in slow] == [(200, "done")] * 3


@ONE_WORKER
def test_idle_connections_give_way_after_silent_ones(start: Start) -> None:
    service = start(SERVICE_MAX_CONNECTIONS="4")
    service.wait_ready()
    idle = service.connect()
    idle.request("GET", "/pid")
    idle.getresponse().read()
    kept = idle.sock
    silent = [connect(service) for _ in range(6)]
    assert service.get("/v2/health/ready") == (200, "yes")
    assert any(map(is_closed, silent))
    idle.request("GET", "/pid")
    assert idle.getresponse().read()
    assert idle.sock is kept


@ONE_WORKER
def test_idle_connections_give_way(start: Start) -> None:
    service = start(SERVICE_MAX_CONNECTIONS="2")
    service.wait_ready()
    idle = []
    for _ in range(4):
        connection = connect(service)
        connection.sendall(HEAD + b"\r\n")
        assert read_response(connection) == 200
        idle.append(connection)
    assert service.get("/v2/health/ready") == (200, "yes")
    assert sum(map(is_closed, idle)) >= 3


def test_connections_without_a_request_do_not_hold_the_exit(start: Start) -> None:
    service = start()
    service.wait_ready()
    idle = service.connect()
    idle.request("GET", "/pid")
    idle.getresponse().read()
    part, silent = connect(service), connect(service)
    part.sendall(HEAD)
    slow = in_background(lambda: service.get("/slow?seconds=1"))
    time.sleep(0.4)
    code, seconds = service.end(signal.SIGTERM, 10)
    assert (code, slow.result()) == (0, (200, "done")), service.text
    assert seconds < 3.5
    silent.close()


@ONE_WORKER
@pytest.mark.parametrize("offer", [H2C, TLS], ids=["h2c", "tls"])
@pytest.mark.parametrize("step", [10_000, 1])
def test_body_of_a_request_that_offers_an_upgrade(start: Start, offer: bytes, step: int) -> None:
    service = start()
    service.wait_ready()
    post = b"POST /length HTTP/1.1\r\nHost: a\r\n" + offer
    requests = [
        post + b"Content-Length: 5\r\n\r\nhello",
        post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2\r\nab\r\n0\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    ]
    data = b"".join(requests)
    with connect(service) as connection:
        for position in range(0, len(data), step):
            connection.sendall(data[position : position + step])
        answer = b"".join(chunks(connection))
    assert statuses(answer) == [200, 200, 200]
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 ")[1:]] == [
        b"5",
        b"7",
        b"3",
    ]


@ONE_WORKER
def test_websocket_outlives_the_time_for_a_head(start: Start) -> None:
    service = start(**TIMES, SERVICE_MAX_CONNECTIONS="4")
    service.wait_ready()
    key = base64.b64encode(bytes(16))
    offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    for _ in range(6):
        with connect(service) as connection:
            connection.sendall(HEAD + offer + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
            others = [connect(service) for _ in range(4)]
            time.sleep(0.6)
            connection.sendall(b"\x81\x85\0\0\0\0hello")
            read_until(connection, b"\x81\x05hello")
        for other in others:
            other.close()


@ONE_WORKER
@pytest.mark.parametrize("before", [b"", b"2\r\nab\r\n"], ids=["first", "second"])
def test_bad_chunk(start: Start, before: bytes) -> None:
    service = start()
    service.wait_ready()
    head = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(exchange(service, head + before + b"zz\r\nhello\r\n0\r\n\r\n")) == [400]
    with connect(service) as connection:
        connection.sendall(head + b"2\r\nab\r\n")
    service.end(signal.SIGTERM, 10)
    assert "ERROR" not in service.text


POST = (
    b"POST /v2/health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HEAD.replace(b"/pid", b"/v2") + b"\r\n"
)
"""One that hides another from those who go by its length."""
WRONG_CHUNK = (
    b"POST /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"
)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""The begin of a connection, with a frame of settings: length, type, flags and stream."""


@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_what_the_service_adds(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("absolute targets, hidden requests, many headers", variant, len(SERVER_VARIANTS))
    with Service(copy_of(variant), bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()

        def get(target: bytes, headers: bytes = b"") -> bytes:
            head = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            return exchange(service, head + headers + b"\r\n")

        assert get(b"http://a:80/v2/health/live").endswith(b'{"live":true}')
        assert statuses(get(b"HTTPS://a/docs?x=http://b/")) == [200]
        fields = [b"X-%d: a\r\n" % number for number in range(120)]
        assert statuses(get(b"/v2", b"".join(fields[:90]))) == [200]
        assert statuses(get(b"/v2", b"".join(fields))) == [431]
        # granian leaves Content-Length out: the front cannot see it. Nothing hidden is answered.
        expected = 405 if variant.server == "granian" else 400
        assert statuses(exchange(service, POST)) == [expected], version(variant.server)
        # A client may wait for the answer before it sends what it announces.
        large = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n"
        assert statuses(exchange(service, large)) == [415]
        large = large[:-2] + b"Content-Type: application/json\r\n\r\n"
        assert statuses(exchange(service, large)) == [413]
        # What the servers themselves do; docs/servers.md says so.
        expected = 400 if variant.server == "uvicorn" else 307  # to /docs
        assert statuses(get(b"http://a")) == [expected], version(variant.server)
        expected = 405 if variant.server == "granian" else 400
        assert statuses(exchange(service, WRONG_CHUNK)) == [expected], version(variant.server)
        with connect(service) as connection:
            connection.sendall(HTTP2)
            frame = connection.recv(9)
        assert (frame[3:4] == HTTP2[-6:-5]) is (variant.server == "hypercorn"), version(
            variant.server
        )
        expected = 101 if variant.server == "hypercorn" else 200
        with connect(service) as connection:
            connection.sendall(HEAD.replace(b"/pid", b"/v2") + H2C + b"\r\n")
            status = statuses(connection.recv(4096))[0]
        assert status == expected, version(variant.server)
