"""What Django Ninja documents, in an emitted service."""

import json
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from asgi_lifespan import LifespanManager

from service.main import app, create_app
from service.ops.settings import Settings
from service.orders import EXAMPLE, EXPECTED

pytestmark = pytest.mark.anyio

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CERTAIN = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["first", "second"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application, twice in one process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        LifespanManager(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        with anyio.fail_after(60):
            while (await client.get("/v2/health/ready")).status_code != 200:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        yield client


async def test_route_in_app(client: httpx.AsyncClient) -> None:
    assert (await client.get("/in-app")).json() == "in app.py"
    assert "/in-app" in (await client.get("/openapi.json")).json()["paths"]


async def test_middleware(client: httpx.AsyncClient) -> None:
    assert (await client.get("/in-app")).headers["x-letters"] == "7"
    answer = await client.post("/predict", json={"instances": [FLOWER]})
    assert answer.headers["x-letters"] == "8"


async def test_own_exception_handler(client: httpx.AsyncClient) -> None:
    answer = await client.get("/own-error")
    assert (answer.status_code, answer.text) == (418, "sorry: none left")


async def test_unexpected_exception(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.get("/defect")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert caplog.text.count("RuntimeError: a secret") == 1


async def test_streamed_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/stream")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.content == b"0;1;2;"


async def test_own_route_calls_the_model(client: httpx.AsyncClient) -> None:
    best = await client.post("/best", json=[FLOWER, CERTAIN])
    assert best.status_code == 200
    assert best.json()["label"] == "setosa"
    assert (await client.post("/tensors")).json() == [3, 3]
    wrong = (await client.post("/best", json=[FLOWER, {"sepal_length": "5"}])).json()
    assert "1.sepal_length" in [error["field"] for error in wrong["errors"]]
    wrong = (await client.post("/two-bodies", json={"first": FLOWER, "second": {}})).json()
    assert "second.sepal_length" in [error["field"] for error in wrong["errors"]]


async def test_structured_detail(client: httpx.AsyncClient) -> None:
    answer = await client.get("/structured")
    assert answer.status_code == 409
    assert answer.json()["errors"] == [{"stock": 0}]
    assert answer.json()["detail"] == "Conflict"


async def test_wrong_query(client: httpx.AsyncClient) -> None:
    for path, reason in (("/query", "required"), ("/query?n=x", "integer"), ("/query?n=0", "0")):
        answer = await client.get(path)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "query.n"
        assert reason in error["reason"]


async def test_status_of_post(client: httpx.AsyncClient) -> None:
    assert (await client.post("/created")).status_code == 201
    assert (await client.post("/tensors")).status_code == 200


async def test_wrong_method_and_path(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/created")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/no/such/path")).headers["content-type"] == "application/problem+json"


async def test_exceptions_of_middleware(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for path, status, detail in (
        ("/forbidden", 403, "not here"),
        ("/broken", 500, "The service failed to answer this request."),
    ):
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == detail
    assert caplog.text.count("RuntimeError: a secret") == 1


async def test_websockets_are_refused_quietly(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    await app({"type": "websocket", "path": "/socket", "headers": []}, receive, send)
    assert sent == ["websocket.close"]
    assert not caplog.records


async def test_metrics_have_the_routes(client: httpx.AsyncClient) -> None:
    await client.get("/query?n=1")
    assert 'route="/query"' in (await client.get("/metrics")).text


async def test_types_beyond_those_of_json(client: httpx.AsyncClient) -> None:
    answer = await client.post("/orders", json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    assert answer.json() == EXPECTED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "2"),
        ("count", 2.5),
        ("color", "blue"),
        ("id", "1"),
        ("at", "noon"),
        ("photo", "a"),
    ],
)
async def test_wrong_values_of_these_types(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    answer = await client.post("/orders", json=EXAMPLE | {field: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("seen", ["/iris", ""], ids=["passed on", "stripped"])
async def test_own_routes_under_a_prefix_and_from_other_origins(seen: str) -> None:
    changed = {"root_path": "/iris", "cors_origins": ("https://page.example",)}
    prefixed = create_app(Settings(**changed))
    transport = httpx.ASGITransport(prefixed, raise_app_exceptions=False)
    async with (
        LifespanManager(prefixed),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        with anyio.fail_after(60):
            while (await client.get("/v2/health/ready")).status_code != 200:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        page = {"origin": "https://page.example"}
        for path in (f"{seen}/", seen or "/"):  # an own route wins over the way to the docs
            home = await client.get(path, headers=page)
            assert (home.status_code, home.json()) == (200, "/iris/")
            assert home.headers.get_list("access-control-allow-origin") == [page["origin"]]
        assert (await client.get(f"{seen}/query?n=1")).status_code == 200
        wrong = await client.get(f"{seen}/query?n=x", headers=page)
        assert wrong.headers["access-control-allow-origin"] == page["origin"]
        answer = await client.post(f"{seen}/predict", json={"instances": [FLOWER]})
        assert answer.status_code == 200
        assert 'route="/query"' in (await client.get("/metrics")).text


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=a", ""])
async def test_only_what_says_that_it_is_json_is_parsed(
    client: httpx.AsyncClient, content_type: str
) -> None:
    body = json.dumps(EXAMPLE)
    answer = await client.post("/orders", content=body, headers={"content-type": content_type})
    assert answer.status_code == 415, answer.text
    vendor = {"content-type": "application/vnd.a+json; charset=utf-8"}
    assert (await client.post("/orders", content=body, headers=vendor)).status_code == 200
