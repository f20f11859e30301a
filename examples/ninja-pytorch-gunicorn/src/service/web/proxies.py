"""Proxies that may say for whom they ask: X-Forwarded-For and X-Forwarded-Proto."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from service.ops.settings import UNIX
from service.web.asgi import Scope

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SECURE: Final = {"http": "https", "https": "https", "ws": "wss", "wss": "wss"}
_PLAIN: Final = {secure: plain for plain, secure in _SECURE.items() if plain != secure}


class Proxies:
    """Takes the address of the client and its scheme from proxies that are trusted.

    ``trusted``: addresses and networks, and ``unix`` for those on a Unix socket.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusts_unix: Final = UNIX in trusted
        self._networks: Final = [ipaddress.ip_network(each) for each in trusted if each != UNIX]

    def apply(self, scope: Scope) -> Scope:
        """Return the scope with the client that the nearest trusted proxies name.

        The list is read from its end: what a client may have put before it is not believed.
        """
        peer = scope.get("client")
        address = _parse(peer[0]) if peer and peer[0] else None
        if not (self._trusts(address) if address else self._trusts_unix):
            return scope
        hops = 0
        client = peer
        for text in reversed(_values(scope, b"x-forwarded-for")):
            host, port = _split(text)
            address = _parse(host)
            if address is None:
                break
            hops += 1
            client = (str(address), port)
            if not self._trusts(address):
                break
        schemes = _values(scope, b"x-forwarded-proto")
        scheme = schemes[max(-len(schemes), -max(hops, 1))].lower() if schemes else ""
        return {**scope, "client": client, "scheme": _scheme(scope["scheme"], scheme)}

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _values(scope: Scope, wanted: bytes) -> list[str]:
    """Return the entries of a list that may be spread over several headers."""
    texts = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return [entry.strip() for text in texts for entry in text.split(",") if entry.strip()]


def _split(text: str) -> tuple[str, int]:
    """Return host and port of 10.0.0.1, 10.0.0.1:80, ::1 or [::1]:80; without a port, zero."""
    host, separator, port = text.rpartition(":")
    if text.endswith("]") or not separator or (":" in host and not host.endswith("]")):
        host, port = text, ""
    number = int(port) if port.isascii() and port.isdigit() else 0
    return host.removeprefix("[").removesuffix("]"), number if number < 2**16 else 0


def _parse(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _scheme(own: str, forwarded: str) -> str:
    """Return the scheme of a scope, secure or plain as forwarded, if that says either."""
    if forwarded in ("https", "wss"):
        return _SECURE.get(own, own)
    if forwarded in ("http", "ws"):
        return _PLAIN.get(own, own)
    return own
