"""Routes of your own, with the routes of ``stand_in/routes.py``: keys, errors, document, hooks."""

import logging
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from managed.conftest import Serve
from managed.importing import Shell
from managed.support import Doubler, Service

pytestmark = pytest.mark.anyio

KEY = "a-key-that-is-long-enough"
OTHER = "another-key-long-enough"
WRONG: tuple[dict[str, str], ...] = (
    {},
    {"x-api-key": KEY[:-1]},
    {"x-api-key": f"{KEY}x"},
    {"x-api-key": ""},
    {"x-api-key": KEY.upper()},
    {"x-api-key": f"{KEY},{OTHER}"},
    {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer {OTHER[:-1]}"},
    {"authorization": f"Bearer {OTHER}x"},
)
RIGHT: tuple[dict[str, str], ...] = (
    {"x-api-key": KEY},
    {"x-api-key": OTHER},
    {"authorization": f"Bearer {KEY}"},
    {"authorization": f"bearer  {OTHER} "},
    {"authorization": f"Bearer {KEY[:-1]}", "x-api-key": OTHER},
)


def test_routes_are_found_whatever_their_methods(shell: Shell) -> None:
    has_route = shell.modules["app"].has_route
    assert has_route("/own/items/3")
    assert has_route("/own/orders")  # POST only
    assert not has_route("/own/nothing")


async def test_own_routes_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/own/items/21")
    assert (answer.status_code, answer.json()) == (200, 42)
    answer = await client.post("/own/orders", json={"count": 2})
    assert (answer.is_success, answer.json()) == (True, 4)


async def test_all_that_is_not_open_needs_one_of_the_keys(serve: Serve) -> None:
    guarded = [
        ("GET", "/own/items/1"),
        ("HEAD", "/own/items/1"),
        ("POST", "/own/orders"),
        ("POST", "/v2/models/doubler/infer"),
        ("POST", "/v2/models/doubler/versions/1/infer"),
        ("GET", "/no/such/path"),
        ("DELETE", "/own/items/1"),
    ]
    open_to_all = ["/v2", "/v2/models/doubler", "/v2/models/doubler/ready", "/v2/health/live"]
    async with serve(Doubler(), api_keys=f"{KEY},{OTHER}") as service:
        for method, path in guarded:
            for headers in WRONG:
                answer = await service.client.request(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, headers)
            for headers in RIGHT:
                answer = await service.client.request(method, path, headers=headers)
                assert answer.status_code != 401, (method, path, headers)
        for path in open_to_all:
            assert (await service.client.get(path)).status_code == 200


async def test_websockets_need_one_of_the_keys(serve: Serve, shell: Shell) -> None:
    accepted = ["websocket.accept", "websocket.send", "websocket.close"]
    expected = accepted if shell.modules["routes"].HAS_WEBSOCKETS else ["websocket.close"]
    async with serve(Doubler(), api_keys=f"{KEY},{OTHER}") as service:
        for headers in WRONG:
            (refused,) = await connect(service, "/own/socket", headers)
            assert refused == {"type": "websocket.close", "code": 1008}, headers
        for headers in RIGHT:
            sent = await connect(service, "/own/socket", headers)
            assert [message["type"] for message in sent] == expected, headers
    async with serve(Doubler()) as service:
        sent = await connect(service, "/own/socket", {})
        assert [message["type"] for message in sent] == expected


async def test_wrong_values_are_listed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/own/orders", json={"count": 0})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["field"] == "count"
    assert "greater than 0" in error["reason"]


@pytest.mark.parametrize("query", ["", "?number=x"])
async def test_wrong_parameters_are_listed(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/own/double{query}")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "query.number"
    assert query or error["reason"] == "Field required"


async def test_errors_of_own_routes_are_problems(client: httpx.AsyncClient) -> None:
    answer = await client.get("/own/refusal")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "none left"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    unknown = await client.get("/own/no")
    wrong = await client.delete("/own/orders")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert "POST" in wrong.headers["allow"]
    for problem in (unknown, wrong):
        assert problem.headers["content-type"] == "application/problem+json"


async def test_what_an_error_says_beside_its_text_is_kept(
    client: httpx.AsyncClient, shell: Shell
) -> None:
    answer = await client.get("/own/sold-out")
    assert answer.status_code == 409
    assert answer.json().get("errors") == shell.modules["routes"].SOLD_OUT


async def test_exceptions_of_the_framework_are_problems_and_no_defects(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [await client.get(f"/own/{path}") for path in ("missing", "forbidden", "suspicious")]
    assert [answer.status_code for answer in answers] == [404, 403, 400]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert [answer.json()["detail"] for answer in answers[:2]] == ["no such item", "not yours"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_headers_of_an_error_are_kept(client: httpx.AsyncClient, shell: Shell) -> None:
    answer = await client.get("/own/refusal")
    # Django Ninja has no headers of errors, and no lifespan either.
    with shell.modules["routes"].hooks(shell.modules["app"].app) as hooks:
        assert answer.headers.get("x-stock") == ("0" if hooks is not None else None)


async def test_defects_are_logged_and_not_told(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.get("/own/defect")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["unexpected error"]
    assert "a secret" in caplog.text


async def test_document_has_own_routes(client: httpx.AsyncClient) -> None:
    paths: dict[str, Any] = (await client.get("/openapi.json")).json()["paths"]
    own = {path: list(item) for path, item in paths.items() if path.startswith("/own")}
    assert own == {
        "/own/items/{number}": ["get"],
        "/own/double": ["get"],
        "/own/orders": ["post"],
        "/own/refusal": ["get"],
        "/own/sold-out": ["get"],
        "/own/missing": ["get"],
        "/own/forbidden": ["get"],
        "/own/suspicious": ["get"],
        "/own/defect": ["get"],
        "/own/span": ["get"],
        "/own/span-in-thread": ["get"],
    }
    body = paths["/own/orders"]["post"]["requestBody"]["content"]["application/json"]
    assert "Order" in str(body)


async def test_metrics_have_the_templates_of_own_routes(client: httpx.AsyncClient) -> None:
    await client.get("/own/items/21")
    await client.get("/own/no")
    metrics = (await client.get("/metrics")).text
    assert 'route="/own/items/{number}"' in metrics
    assert "items/21" not in metrics
    assert "/own/no" not in metrics


async def test_hooks_are_called_once_each(serve: Serve, shell: Shell) -> None:
    with shell.modules["routes"].hooks(shell.modules["app"].app) as hooks:
        if hooks is None:
            return
        async with serve(Doubler()):
            assert hooks == ["start"]
        assert hooks == ["start", "end"]


async def connect(
    service: Service, path: str, headers: dict[str, str], texts: Sequence[str] = ("hello",)
) -> list[dict[str, Any]]:
    """Open a WebSocket, send texts and return all messages of the application."""
    sent: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in texts),
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
    }
    await service.app(scope, receive, send)
    return sent
