"""Forwarded headers, on each server: nobody is believed by default, and named proxies alike."""

import json
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.client import HOST
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

ROUTE = """

from fastapi import Request


@router.get("/own/client")
async def client(request: Request) -> list[str]:
    return [request.client.host, str(request.url_for("client"))]
"""
PROXY = "127.0.0.2"
FORWARDED = {
    "X-Forwarded-For": "6.6.6.6, 192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "Forwarded": "for=192.0.2.7;proto=https",
    "Host": "service",
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_client_and_scheme_are_the_named_proxys_to_tell(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("forwarded headers", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    routes = project / "src/service/routes.py"
    routes.write_text(routes.read_text(encoding="utf-8") + ROUTE, encoding="utf-8")
    settings = {"SERVICE_TRUSTED_PROXIES": PROXY, "FORWARDED_ALLOW_IPS": "*"}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        assert ask_from(HOST, service.port) == [HOST, "http://service/own/client"]
        assert ask_from(PROXY, service.port) == ["192.0.2.7", "https://service/own/client"]


def ask_from(address: str, port: int) -> Any:
    """Ask from an address of this machine for client and URL as the service sees them."""
    connection = HTTPConnection(HOST, port, timeout=20, source_address=(address, 0))
    connection.request("GET", "/own/client", headers=FORWARDED)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer
