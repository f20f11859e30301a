"""Requests that are rejected before their body was read."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from managed.conftest import Serve
from managed.support import Doubler, Service

pytestmark = pytest.mark.anyio

CHUNK = 2**18


@pytest.mark.parametrize("header", ["content-length", "transfer-encoding"])
async def test_the_rest_of_a_body_is_read(serve: Serve, header: str) -> None:
    async with serve(Doubler()) as service:
        response, left = await reject(service, 3, header, "1.1")
    assert response["status"] == 404
    assert left == 0
    assert (b"connection", b"close") not in response["headers"]


async def test_connection_is_closed_if_the_rest_is_large(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        response, left = await reject(service, 20, "content-length", "1.1")
    assert left > 0
    assert (b"connection", b"close") in response["headers"]


async def test_connection_is_closed_if_the_rest_is_late(serve: Serve) -> None:
    async with serve(Doubler(), request_timeout=1e-9) as service:
        response, left = await reject(service, 3, "content-length", "1.1")
    assert left == 3
    assert (b"connection", b"close") in response["headers"]


async def test_nothing_is_read_where_there_is_no_body(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        response, left = await reject(service, 3, "", "1.1")
    assert left == 3
    assert (b"connection", b"close") not in response["headers"]


async def test_http_2_has_no_connection_header(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        response, _ = await reject(service, 20, "content-length", "2")
    assert b"connection" not in dict(response["headers"])


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/models/doubler", "/metrics", "/docs", "/openapi.json"]
)
async def test_head_is_get_without_the_body(serve: Serve, path: str) -> None:
    async with serve(Doubler()) as service:
        get = await service.client.get(path)
        head = await service.client.head(path)
        wrong = await service.client.head("/v2/nope")
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert (wrong.status_code, wrong.content) == (404, b"")


async def test_head_sends_no_body(serve: Serve) -> None:
    """The client of the test above leaves out a body by itself."""
    async with serve(Doubler()) as service:
        start, *bodies = await call(service, "HEAD", "/v2")
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert [message["body"] for message in bodies] == [b""]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://service:8000/v2", 200),
        ("HTTPS://service/v2/health/live", 200),
        ("http://service/v2/nope", 404),
        ("http://service", 307),
        ("http:/v2", 404),
        ("/http://service/v2", 404),
    ],
)
async def test_target_in_absolute_form(serve: Serve, target: str, status: int) -> None:
    """RFC 9112, 3.2.2: a server must accept it."""
    async with serve(Doubler()) as service:
        response, *_ = await call(service, "GET", target)
    assert response["status"] == status


async def test_two_lengths_of_a_body_are_refused_and_end_the_connection(serve: Serve) -> None:
    headers = [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")]
    async with serve(Doubler()) as service:
        response, *_ = await call(service, "GET", "/v2", headers=headers)
    assert response["status"] == 400
    assert (b"connection", b"close") in response["headers"]


async def test_number_of_headers(serve: Serve) -> None:
    headers = [(b"x-%d" % number, b"a") for number in range(101)]
    async with serve(Doubler()) as service:
        (most, *_), (more, *_) = [
            await call(service, "GET", "/v2", headers=headers[:count]) for count in (100, 101)
        ]
    assert (most["status"], more["status"]) == (200, 431)


async def reject(
    service: Service, chunks: int, header: str, http_version: str
) -> tuple[dict[str, Any], int]:
    """Send a body in chunks to a path that does not exist.

    Returns:
        The message that begins the response, and how many chunks were not read.
    """
    left = chunks

    async def receive() -> Any:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": bytes(CHUNK), "more_body": left > 0}

    headers = [(header.encode(), b"7")] if header else []
    sent = await call(service, "POST", "/v2/nope", receive, headers, http_version)
    return sent[0], left


async def no_body() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def call(
    service: Service,
    method: str,
    path: str,
    receive: Callable[[], Awaitable[Any]] = no_body,
    headers: Sequence[tuple[bytes, bytes]] = (),
    http_version: str = "1.1",
) -> list[Any]:
    """Call the application as a server does, and return the messages that it sends."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": http_version,
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await service.app(scope, receive, send)
    return sent
