"""CORS: what pages of other origins may do, on every path and with every status."""

import httpx
import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler, rows

pytestmark = pytest.mark.anyio

PAGE = "https://page.example"
OTHER = "https://other.example:8443"
KEY = "a-key-that-is-long-enough"
ALLOW = "access-control-allow-origin"
PATHS = [INFER, "/own/orders", "/v2/health/ready", "/metrics", "/no/such/path", "/v2/no/such/path"]


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "content-type,x-api-key",
    }


def named(answer: httpx.Response, name: str) -> set[str]:
    return {each.strip().lower() for each in answer.headers.get(name, "").split(",")}


@pytest.mark.parametrize("path", PATHS)
async def test_preflight(serve: Serve, path: str) -> None:
    async with serve(Doubler(), cors_origins=(PAGE, OTHER), api_keys=KEY) as service:
        for origin in (PAGE, OTHER):
            answer = await service.client.options(path, headers=preflight(origin))
            assert answer.status_code == 200
            assert answer.headers[ALLOW] == origin
            assert "post" in named(answer, "access-control-allow-methods")
            assert named(answer, "access-control-allow-headers") == {"content-type", "x-api-key"}
            assert int(answer.headers["access-control-max-age"]) > 0
            assert {"origin", "access-control-request-headers"} <= named(answer, "vary")
            assert "access-control-allow-credentials" not in answer.headers
        for origin in ("https://evil.example", "https://page.example.evil", "http://page.example"):
            refused = await service.client.options(path, headers=preflight(origin))
            assert refused.status_code == 403
            assert ALLOW not in refused.headers
            assert "access-control-allow-methods" not in refused.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_every_response_can_be_read(serve: Serve, path: str, method: str) -> None:
    async with serve(Doubler(), cors_origins=(PAGE,), api_keys=KEY) as service:
        for headers in ({}, {"x-api-key": KEY}):
            answer = await service.client.request(method, path, headers={"origin": PAGE, **headers})
            assert answer.headers.get_list(ALLOW) == [PAGE]
            assert "origin" in named(answer, "vary")
            assert {"x-request-id", "inference-header-content-length"} <= named(
                answer, "access-control-expose-headers"
            )
        for foreign in ({}, {"origin": "https://evil.example"}):
            answer = await service.client.request(method, path, headers=foreign)
            assert ALLOW not in answer.headers
            assert "origin" in named(answer, "vary")


async def test_predictions_and_refusals_can_be_read(serve: Serve) -> None:
    async with serve(Doubler(), cors_origins=(PAGE,), max_body_bytes=1000) as service:
        good = await service.client.post(INFER, json=rows(1), headers={"origin": PAGE})
        large = await service.client.post(INFER, content=b"x" * 2000, headers={"origin": PAGE})
        assert (good.status_code, large.status_code) == (200, 413)
        assert good.headers[ALLOW] == large.headers[ALLOW] == PAGE


async def test_all_origins(serve: Serve) -> None:
    async with serve(Doubler(), cors_origins=("*",)) as service:
        for headers in (preflight("https://any.example"), preflight("null")):
            answer = await service.client.options(INFER, headers=headers)
            assert (answer.status_code, answer.headers[ALLOW]) == (200, "*")
        answer = await service.client.get("/v2", headers={"origin": "https://any.example"})
        assert answer.headers[ALLOW] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_credentials(serve: Serve) -> None:
    async with serve(Doubler(), cors_origins=(PAGE,), cors_credentials=True) as service:
        for answer in (
            await service.client.options(INFER, headers=preflight(PAGE)),
            await service.client.get("/v2", headers={"origin": PAGE}),
        ):
            assert answer.headers["access-control-allow-credentials"] == "true"
        foreign = await service.client.get("/v2", headers={"origin": "https://evil.example"})
        assert "access-control-allow-credentials" not in foreign.headers


async def test_it_is_off_by_default(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        answer = await service.client.options(INFER, headers=preflight(PAGE))
        assert answer.status_code == 405
        for each in (answer, await service.client.get("/v2", headers={"origin": PAGE})):
            assert not [name for name in each.headers if name.startswith("access-control-")]
            assert "vary" not in each.headers


async def test_names_of_headers_are_all_that_is_repeated(serve: Serve) -> None:
    async with serve(Doubler(), cors_origins=("*",)) as service:
        headers = {**preflight(PAGE), "access-control-request-headers": '<"x">'}
        answer = await service.client.options(INFER, headers=headers)
        assert "access-control-allow-headers" not in answer.headers
