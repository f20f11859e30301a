"""API keys: which requests have one."""

import hmac
from collections.abc import Sequence
from typing import Final

from pydantic import SecretStr

from service.web.errors import Unauthorized


class ApiKeys:
    """The keys that open the predictions; without any, they are open to everyone."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys: Final = [key.get_secret_value().encode() for key in keys]

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Check that a request has a key, in constant time.

        Raises:
            Unauthorized: neither of its two headers has one.
        """
        if not self._keys:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        given = (bearer, headers.get(b"x-api-key", b""))
        matches = [hmac.compare_digest(each, key) for each in given for key in self._keys]
        if not any(matches):
            raise Unauthorized
