"""API keys: what they open, and what is open without them."""

import pytest

from managed.conftest import Serve
from managed.endpoints import ALL_ENDPOINTS, JSON_PATHS
from managed.support import INFER, Doubler

pytestmark = pytest.mark.anyio

KEY = "a-key-that-is-long-enough"


async def test_keys(serve: Serve) -> None:
    keys = f"{KEY}, another-key-long-enough"
    async with serve(Doubler(), **ALL_ENDPOINTS, api_keys=keys) as service:
        ask = service.client
        for path in ("/v2/health/ready", "/v2/health/live", "/metrics", "/docs", "/openapi.json"):
            assert (await ask.get(path)).status_code == 200
        for path in (INFER, *JSON_PATHS, "/no/such/path"):
            for headers in ({}, {"x-api-key": KEY[:-1]}, {"authorization": f"Basic {KEY}"}):
                refused = await ask.post(path, json={}, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
        for headers in (
            {"x-api-key": KEY},
            {"authorization": f"Bearer {KEY}"},
            {"authorization": "bearer another-key-long-enough"},
            {"authorization": "Bearer something-else", "x-api-key": KEY},
            {"authorization": f"Bearer {KEY}", "x-api-key": "something-else"},
        ):
            assert (await ask.post(INFER, json={}, headers=headers)).status_code == 400
            for path in JSON_PATHS:
                assert (await ask.post(path, json={}, headers=headers)).status_code == 422
            assert (await ask.post("/no/such/path", headers=headers)).status_code == 404


async def test_document_names_the_schemes(serve: Serve) -> None:
    async with serve(Doubler(), **ALL_ENDPOINTS, api_keys=KEY) as service:
        document = (await service.client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    infer = "/v2/models/{name}/infer"
    for path in (infer, *JSON_PATHS):
        assert document["paths"][path]["post"]["security"] == [{name: []} for name in schemes]
    assert "401" in document["paths"][infer]["post"]["responses"]
    assert "security" not in document["paths"]["/metrics"]["get"]
