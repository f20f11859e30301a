"""What must not leave the service: keys, what requests hold, and what the model says."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from managed.conftest import Serve
from managed.endpoints import ALL_ENDPOINTS, JSON_PATHS
from managed.support import INFER, Doubler, rows

pytestmark = pytest.mark.anyio

KEY = "a-key-that-is-long-enough"
PRIVATE = "private-7d2f"
"""What a client sends."""
SECRET = "a secret that must not leave the service"  # noqa: S105
"""What the model of `Doubler`, or a route, says in an exception."""


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Return a function that gives all that is logged, with the attributes of its records."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs the client's side
    formatter = logging.Formatter()

    def text() -> str:
        lines = []
        for record in caplog.records:
            lines += [record.getMessage(), str(vars(record))]
            lines += [formatter.formatException(record.exc_info)] if record.exc_info else []
        return "\n".join(lines)

    yield text
    logging.getLogger("httpx").setLevel(logging.NOTSET)


async def test_keys_are_neither_logged_nor_sent(serve: Serve, logged: Any) -> None:
    wrong = f"{PRIVATE}-{KEY}"
    answers: list[httpx.Response] = []
    async with serve(
        Doubler(), **ALL_ENDPOINTS, api_keys=KEY, access_log="all", slow_request=0
    ) as service:
        for path in (INFER, *JSON_PATHS, "/no/such/path"):
            for headers in (
                {"x-api-key": wrong},
                {"authorization": f"Bearer {wrong}"},
                {"authorization": f"Basic {wrong}"},
                {"x-api-key": KEY},
                {"authorization": f"Bearer {KEY}"},
            ):
                answers.append(await service.client.post(path, json={}, headers=headers))
        answers += [await service.client.get(path) for path in ("/metrics", "/openapi.json")]
    assert {answer.status_code for answer in answers} >= {200, 401, 404, 422}
    for answer in answers:
        assert KEY not in answer.text
        assert PRIVATE not in answer.text
        assert KEY not in str(answer.headers)
    assert "401" in logged()
    assert KEY not in logged()


async def test_bodies_and_queries_are_not_logged(serve: Serve, logged: Any) -> None:
    bodies = [
        text.replace("?", PRIVATE)
        for text in (
            '{"inputs": ?',
            '{"?": [NaN]}',
            '{"inputs": [{"name": "?"}]}',
            '{"instances": [{"left": "?"}]}',
            '{"count": "?"}',
        )
    ]
    json_type = {"content-type": "application/json"}
    async with serve(Doubler(), **ALL_ENDPOINTS, access_log="all", slow_request=0) as service:
        for path in (INFER, *JSON_PATHS):
            for body in bodies:
                answer = await service.client.post(
                    f"{path}?token={PRIVATE}", content=body, headers=json_type
                )
                assert 400 <= answer.status_code < 500
    assert "400" in logged()
    assert PRIVATE not in logged()


@pytest.mark.parametrize("path", [INFER, "/own/defect"])
async def test_what_the_model_says_is_logged_and_not_sent(
    serve: Serve, logged: Any, path: str
) -> None:
    model = Doubler()
    async with serve(model) as service:
        if path == INFER:
            answer = await service.client.post(path, json=rows(model.poison))
        else:
            answer = await service.client.get(path)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert SECRET in logged()


async def test_defect_of_the_service_is_logged_and_not_sent(
    serve: Serve, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    async with serve(Doubler()) as service:
        monkeypatch.setattr(service.engine, "infer", broken)
        answer = await service.client.post(INFER, json=rows(1))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert SECRET in logged()


def test_keys_are_not_logged_at_the_start(start_command: Callable[..., None], logged: Any) -> None:
    start_command(api_keys=KEY)
    assert "starting at" in logged()
    assert KEY not in logged()
