"""Which proxies are believed, and what of it reaches the routes of the owner."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from managed.importing import Shell
from managed.support import Doubler, FakeRuntime, running
from service.ops.settings import Settings, SettingsInvalid, load_settings
from service.web.proxies import Proxies

pytestmark = pytest.mark.anyio

FOR, PROTO = "x-forwarded-for", "x-forwarded-proto"


def applied(
    trusted: str, peer: tuple[str, int] | None, *headers: tuple[str, str], scheme: str = "http"
) -> tuple[object, str]:
    """Return client and scheme of a request that came from a peer."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = Proxies(trusted.split(",")).apply(
        {"client": peer, "scheme": scheme, "headers": encoded}
    )
    return scope["client"], scope["scheme"]


@pytest.mark.parametrize(
    ("trusted", "host", "forwarded", "client"),
    [
        ("10.0.0.1", "10.0.0.1", "192.0.2.7", ("192.0.2.7", 0)),
        ("10.0.0.1", "10.0.0.2", "192.0.2.7", ("10.0.0.2", 5)),
        ("10.0.0.0/8", "10.9.9.9", "192.0.2.7:443", ("192.0.2.7", 443)),
        ("10.0.0.0/8", "10.9.9.9", "6.6.6.6, 192.0.2.7, 10.0.0.3", ("192.0.2.7", 0)),
        ("10.0.0.0/8", "10.9.9.9", "10.0.0.4, 10.0.0.3", ("10.0.0.4", 0)),
        ("10.0.0.0/8", "10.9.9.9", "6.6.6.6, unknown", ("10.9.9.9", 5)),
        ("10.0.0.0/8", "10.9.9.9", "6.6.6.6, _hidden, 10.0.0.3", ("10.0.0.3", 0)),
        ("10.0.0.0/8", "10.9.9.9", "", ("10.9.9.9", 5)),
        ("10.0.0.0/8", "::ffff:10.9.9.9", "2001:db8::1", ("2001:db8::1", 0)),
        ("fd00::/8", "fd00::1", "[2001:db8::1]:99", ("2001:db8::1", 99)),
        ("fd00::/8", "fd00::1", "[2001:db8::1]", ("2001:db8::1", 0)),
        ("fd00::/8", "fd00::1", "192.0.2.7:99999", ("192.0.2.7", 0)),
    ],
)
def test_nearest_client_that_is_no_proxy(
    trusted: str, host: str, forwarded: str, client: tuple[str, int]
) -> None:
    assert applied(trusted, (host, 5), (FOR, forwarded))[0] == client


def test_list_may_be_in_several_headers() -> None:
    headers = [(FOR, "6.6.6.6"), (FOR, "192.0.2.7"), (PROTO, "http"), (PROTO, "https")]
    assert applied("10.0.0.1", ("10.0.0.1", 5), *headers) == (("192.0.2.7", 0), "https")


@pytest.mark.parametrize(
    ("own", "forwarded", "scheme"),
    [
        ("http", "https", "https"),
        ("http", "HTTPS", "https"),
        ("https", "http", "http"),
        ("ws", "https", "wss"),
        ("ws", "wss", "wss"),
        ("wss", "http", "ws"),
        ("http", "gopher", "http"),
        ("http", "", "http"),
        ("http", "http, https", "https"),
    ],
)
def test_scheme_of_the_client(own: str, forwarded: str, scheme: str) -> None:
    headers = [(FOR, "192.0.2.7"), (PROTO, forwarded)]
    assert applied("10.0.0.1", ("10.0.0.1", 5), *headers, scheme=own)[1] == scheme
    assert applied("10.0.0.1", ("10.0.0.9", 5), *headers, scheme=own)[1] == own


def test_scheme_is_that_with_which_the_client_came_to_the_first_proxy() -> None:
    headers = [(FOR, "192.0.2.7, 10.0.0.2"), (PROTO, "https, http")]
    assert applied("10.0.0.0/8", ("10.0.0.1", 5), *headers) == (("192.0.2.7", 0), "https")


@pytest.mark.parametrize("peer", [None, ("", 0), ("unix:", 0)])
def test_who_comes_through_a_unix_socket(peer: tuple[str, int] | None) -> None:
    assert applied("unix", peer, (FOR, "192.0.2.7"))[0] == ("192.0.2.7", 0)
    assert applied("10.0.0.0/8", peer, (FOR, "192.0.2.7"))[0] == peer
    assert applied("unix", ("10.0.0.1", 5), (FOR, "192.0.2.7"))[0] == ("10.0.0.1", 5)


class Echo:
    """A framework that answers with the client and the scheme of a request."""

    seen: tuple[object, str]

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen = (scope["client"], scope["scheme"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Mapping[str, Any] | None]:
        yield None

    def openapi(self) -> dict[str, Any]:
        return {}

    def has_route(self, path: str) -> bool:
        return True

    def route_template(self, scope: Any) -> str | None:
        return "/own"


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [((), (("127.0.0.1", 123), "http")), (("127.0.0.1",), (("192.0.2.7", 0), "https"))],
    ids=["nobody, by default", "a proxy"],
)
async def test_routes_of_the_owner(
    shell: Shell, folder: Path, trusted: tuple[str, ...], seen: tuple[object, str]
) -> None:
    framework = Echo()
    settings = Settings(model_dir=folder, trusted_proxies=trusted, warmup=False)
    app = shell.main.create_app(settings, FakeRuntime(Doubler()), framework)
    async with running(app) as service:
        headers = {FOR: "192.0.2.7", PROTO: "https"}
        answer: httpx.Response = await service.client.get("/own", headers=headers)
    assert answer.status_code == 200
    assert framework.seen == seen


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33", "::1, x"])
def test_wrong_proxies_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SERVICE_TRUSTED_PROXIES", value)
    with pytest.raises(SettingsInvalid, match=r"^SERVICE_TRUSTED_PROXIES: not an address"):
        load_settings()


def test_proxies_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TRUSTED_PROXIES", "10.0.0.0/8, ::1,unix,")
    assert load_settings().trusted_proxies == ("10.0.0.0/8", "::1", "unix")
