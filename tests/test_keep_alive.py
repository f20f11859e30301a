"""A connection can be used again, also after a response that came before its request was read."""

import http.client
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

ROUNDS = 15
REJECTED: tuple[tuple[str, int, dict[str, str], int], ...] = (
    ("/v2/nope", 300_000, {}, 404),
    ("/predict", 300_000, {"Content-Type": "text/plain"}, 415),
    ("/metrics", 70_000, {}, 405),
    ("/v2/nope", 3_000_000, {}, 404),
)
"""Path, bytes of the body, headers, status."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_request_after_a_rejected_one(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("a rejected body, and the next request of its connection", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    golden = Golden.of(project)
    request = json.dumps(golden.typed_request)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        for _ in range(ROUNDS):
            for path, size, headers, status in REJECTED:
                answer = ask(connection, path, b"x" * size, headers)
                # A body over the limit may be cut off by the end of the connection.
                assert answer == status or (answer == 0 and size > 2**20)
                if not answer:
                    connection.close()
                headers = {"Content-Type": "application/json"}
                assert head(connection, "/docs") == head(connection, "/v2") == 200
                assert ask(connection, "/predict", request.encode(), headers) == 200
        connection.close()


def head(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("HEAD", path)
    response = connection.getresponse()
    assert response.read() == b""
    assert int(response.headers["content-length"]) > 0
    return response.status


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]
) -> int:
    """Return the status of a POST; zero if the connection ended while its body was sent."""
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
    except (BrokenPipeError, ConnectionResetError):
        return 0
    return response.status
