"""The path prefix: proxies that strip it and those that do not, and what leads to the docs."""

from urllib.parse import unquote

import httpx
import pytest

from managed.conftest import Serve
from managed.support import INFER, Doubler, rows
from service.web.path_prefix import PathPrefix, restore

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seen", ["/iris", ""], ids=["passed on", "stripped"])
@pytest.mark.parametrize("prefix", ["/iris", "/models/iris"])
async def test_every_path_is_found(serve: Serve, prefix: str, seen: str) -> None:
    under = prefix if seen else ""
    async with serve(Doubler(), root_path=prefix) as service:
        ask = service.client
        for path in ("/v2", "/v2/health/live", "/metrics", "/docs", "/docs/docs.css"):
            assert (await ask.get(under + path)).status_code == 200, path
        answer = await ask.post(under + INFER, json=rows(1))
        assert answer.json()["outputs"][0]["data"] == [2, 2]
        wrong = await ask.post(f"{under}/own/orders", json={"count": 0})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["field"] == "count"
        for path in (f"{under}/no/such/path", f"{prefix}x/v2", f"{prefix}{prefix}/v2"):
            missing = await ask.get(path)
            assert missing.status_code == 404, path
            assert missing.headers["content-type"] == "application/problem+json"
        under_v2 = await ask.get(f"{under}/v2/no/such/path")
        assert under_v2.json().keys() == {"error"}
        document = (await ask.get(f"{under}/openapi.json")).json()
        assert document["servers"] == [{"url": prefix}]
        assert "/own/orders" in document["paths"]
        for path in ("/", "/docs/"):
            assert (await ask.get(under + path)).headers["location"] == f"{prefix}/docs"
        assert (await ask.get(under or "/")).headers["location"] == f"{prefix}/docs"
        metrics = (await ask.get("/metrics")).text
        assert 'route="/v2/models/{name}/infer"' in metrics
        assert 'route="/iris' not in metrics


async def test_application_that_is_mounted(serve: Serve) -> None:
    async with serve(Doubler()) as service:
        for root_path, under in (("/outer", "/outer"), ("/outer/", "/outer"), ("/outer", "")):
            transport = httpx.ASGITransport(app=service.app, root_path=root_path)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as ask:
                assert (await ask.get(f"{under}/v2")).status_code == 200
                document = (await ask.get(f"{under}/openapi.json")).json()
                assert document["servers"] == [{"url": "/outer"}]
                assert (await ask.get(f"{under}/")).headers["location"] == "/outer/docs"
        assert "servers" not in (await service.client.get("/openapi.json")).json()
        transport = httpx.ASGITransport(app=service.app, root_path="/")
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as ask:
            assert (await ask.get("/")).headers["location"] == "/docs"


@pytest.mark.parametrize("path", ["/", "/docs/"])
async def test_paths_that_lead_to_the_docs(serve: Serve, path: str) -> None:
    async with serve(Doubler(), api_keys="a-key-that-is-long-enough") as service:
        for method in ("GET", "HEAD"):
            answer = await service.client.request(method, path)
            assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
            assert not answer.content
        wrong = await service.client.post(path)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/", "/docs/"])
async def test_nothing_leads_to_docs_that_are_off(serve: Serve, path: str) -> None:
    async with serve(Doubler(), docs=False) as service:
        assert (await service.client.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/irises", "/irises/iris/a%2Fb"])
@pytest.mark.parametrize("seen", ["/iris", ""])
def test_framework_gets_the_whole_path(path: str, seen: str) -> None:
    given = {"path": seen + unquote(path), "raw_path": (seen + path).encode(), "root_path": ""}
    scope = PathPrefix("/iris").remove(given)
    assert (scope["path"], scope["raw_path"]) == (unquote(path), path.encode())
    restore(scope)
    assert scope["path"] == f"/iris{unquote(path)}"
    assert scope["raw_path"] == f"/iris{path}".encode()
    assert scope["root_path"] == "/iris"
