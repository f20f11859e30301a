"""What Litestar documents, in an emitted service."""

import json
import time
from collections.abc import Iterator

import pytest
from litestar.di import Provide
from litestar.testing import TestClient, create_test_client

from service import app as framework
from service import routes
from service.core.manifest import ModelInfo
from service.core.predictor import Predictor
from service.main import app, create_app
from service.ops.settings import Settings
from service.orders import EXAMPLE, EXPECTED
from service.predict import Instance, Prediction

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CERTAIN = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}


def wait_ready(client: TestClient) -> None:
    deadline = time.monotonic() + 60
    while client.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(params=["first", "second"])
def client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """Start the application, twice in one process."""
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


def test_dependency_on_an_own_route(client: TestClient) -> None:
    assert client.get("/dependency", headers={"x-color": "red"}).text == "RED"
    problem = client.get("/dependency").json()
    assert problem["errors"] == [{"field": "header.x-color", "reason": "Field required"}]


def test_dependency_on_predict(client: TestClient) -> None:
    refused = client.post("/predict", json={"instances": [FLOWER]}, headers={"x-plan": "none"})
    assert refused.status_code == 402
    assert refused.json()["detail"] == "no plan"
    guarded = client.post("/predict", json={"instances": [FLOWER]}, headers={"x-plan": "stolen"})
    assert (guarded.status_code, guarded.json()["detail"]) == (403, "no key")
    assert client.post("/predict", json={"instances": [FLOWER]}).status_code == 200


def test_route_in_app(client: TestClient) -> None:
    assert client.get("/in-app").text == "in app.py"
    assert "/in-app" in client.get("/openapi.json").json()["paths"]


def test_state_of_a_lifespan(client: TestClient) -> None:
    assert client.get("/lifespan").text == "hello"


def test_middleware(client: TestClient) -> None:
    assert client.get("/in-app").headers["x-letters"] == "7"
    assert client.post("/predict", json={"instances": [FLOWER]}).headers["x-letters"] == "8"


def test_own_exception_handler(client: TestClient) -> None:
    answer = client.get("/own-error")
    assert (answer.status_code, answer.text) == (418, "sorry: none left")


def test_unexpected_exception(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    answer = client.get("/defect")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert caplog.text.count("RuntimeError: a secret") == 1


def test_background_work(client: TestClient) -> None:
    routes.worked.clear()
    answer = client.post("/background")
    assert (answer.status_code, answer.text) == (202, "accepted")
    deadline = time.monotonic() + 10
    while not routes.worked:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert routes.worked == [[2, 3]]


def test_streamed_answer(client: TestClient) -> None:
    with client.stream("GET", "/stream") as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        assert b"".join(answer.iter_bytes()) == b"0;1;2;"


def test_websocket_asks_the_engine(client: TestClient) -> None:
    with client.websocket_connect("/socket") as socket:
        socket.send_text("go")
        assert socket.receive_json() == [2, 3]


def test_own_route_calls_the_model(client: TestClient) -> None:
    best = client.post("/best", json=[FLOWER, CERTAIN])
    assert best.status_code == 200
    assert best.json()["label"] == "setosa"
    assert client.post("/tensors").json() == [3, 3]
    wrong = client.post("/best", json=[FLOWER, {"sepal_length": "5"}]).json()
    assert "sepal_length" in [error["field"] for error in wrong["errors"]]  # Litestar has no index


def test_overridden_dependency() -> None:
    class Fake(Predictor[Instance, Prediction]):
        model = ModelInfo(name="fake", version="0")

        def __init__(self) -> None:
            """Have no engine."""

        async def predict(self, *_: object) -> list[Prediction]:
            return [Prediction(label="virginica", probabilities={"virginica": 1})]

    fakes = {"predictor": Provide(Fake, sync_to_thread=False)}
    with create_test_client([framework.predict], dependencies=fakes) as client:
        answer = client.post("/predict", json={"instances": [FLOWER]}).json()
    assert answer["model"] == {"name": "fake", "version": "0"}
    assert answer["predictions"][0]["label"] == "virginica"


def test_structured_detail(client: TestClient) -> None:
    answer = client.get("/structured")
    assert answer.status_code == 409
    assert answer.headers["x-stock"] == "0"
    assert answer.json()["errors"] == [{"stock": 0}]
    assert answer.json()["detail"] == "sold out"


def test_wrong_query(client: TestClient) -> None:
    for path, reason in (("/query", "required"), ("/query?n=x", "int"), ("/query?n=0", ">= 1")):
        answer = client.get(path)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "query.n"
        assert reason in error["reason"]


def test_status_of_post(client: TestClient) -> None:
    assert client.post("/created").status_code == 201


def test_metrics_have_the_routes(client: TestClient) -> None:
    client.get("/query?n=1")
    assert 'route="/query"' in client.get("/metrics").text


def test_types_beyond_those_of_json(client: TestClient) -> None:
    answer = client.post("/orders", json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    assert answer.text == EXPECTED


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
def test_wrong_values_of_these_types(client: TestClient, field: str, value: object) -> None:
    answer = client.post("/orders", json=EXAMPLE | {field: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("seen", ["/iris", ""], ids=["passed on", "stripped"])
def test_own_routes_under_a_prefix_and_from_other_origins(seen: str) -> None:
    changed = {"root_path": "/iris", "cors_origins": ("https://page.example",)}
    prefixed = create_app(Settings(**changed))
    with TestClient(prefixed, raise_server_exceptions=False) as client:
        wait_ready(client)
        page = {"origin": "https://page.example"}
        for path in (f"{seen}/", seen or "/"):  # an own route wins over the way to the docs
            home = client.get(path, headers=page)
            assert (home.status_code, home.text) == (200, "/iris/")
            assert home.headers.get_list("access-control-allow-origin") == [page["origin"]]
        assert client.get(f"{seen}/query?n=1").status_code == 200
        assert client.get(f"{seen}/query?n=x", headers=page).headers["vary"] == "Origin"
        assert client.post(f"{seen}/predict", json={"instances": [FLOWER]}).status_code == 200
        with client.websocket_connect(f"{seen}/socket") as socket:
            socket.send_text("go")
            assert socket.receive_json() == [2, 3]
        assert 'route="/query"' in client.get("/metrics").text


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=a", ""])
def test_only_what_says_that_it_is_json_is_parsed(client: TestClient, content_type: str) -> None:
    body = json.dumps(EXAMPLE)
    answer = client.post("/orders", content=body, headers={"content-type": content_type})
    assert answer.status_code == 415, answer.text
    vendor = {"content-type": "application/vnd.a+json; charset=utf-8"}
    assert (client.post("/orders", content=body, headers=vendor)).status_code == 200
