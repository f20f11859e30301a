"""Strict JSON (RFC 8259): valid UTF-8, no repeated keys, no NaN or Infinity."""

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import jiter
import numpy as np

from service.core.errors import TooLarge
from service.core.turns import pause
from service.web.errors import LISTED_ERRORS, InvalidValues, Malformed

_FEW_VALUES: Final = 10_000
"""JSON with more of them, or of more than `_SHORT_BYTES`, keeps a parser busy for long."""
_SHORT_BYTES: Final = 2**20
SEPARATORS: Final = (b",", b":", b"[", b"{")
_CONTENT_TYPE: Final = re.compile(rb"application/([^/]*\+)?json")
_FINITE_LENGTH: Final = 200
"""A number of no more characters is finite, if its exponent has no more than two digits."""
_LONG_EXPONENTS: Final = (re.compile(rb"e\+?[0-9]{3}"), re.compile(rb"E\+?[0-9]{3}"))
"""Two, since `re` is fast where a pattern begins with one letter."""


class ValueLimit:
    """The largest number of values that JSON may have, ``limit``.

    ``setting``: its variable; ``advice``: how a client can do without so many. ``key_weight``: for
    how many values a key counts, since a parser compares each key with the others.
    """

    def __init__(self, limit: int, setting: str, advice: str, key_weight: int = 1) -> None:
        self.limit: Final = limit
        self._key_weight: Final = key_weight
        self._text: Final = f"The JSON has more than {limit} values ({setting}). {advice}"

    async def check(self, body: bytes, length: int) -> bool:
        """Check the first ``length`` bytes of a body before anything parses them.

        Values are counted by separators, so that those in strings count too: it is an upper bound.

        Returns:
            Whether a parser would hold up the event loop for long.

        Raises:
            TooLarge: there are more values than the limit.
        """
        if length <= min(_FEW_VALUES, self.limit // self._key_weight):
            return False
        octets = np.frombuffer(body, dtype=np.uint8, count=length)
        count = 0
        for start in range(0, length, _SHORT_BYTES):
            if start:
                await pause()
            piece = octets[start : start + _SHORT_BYTES]
            for separator in SEPARATORS:  # several times as fast as `bytes.count`
                weight = self._key_weight if separator == b":" else 1
                count += weight * int(np.count_nonzero(piece == ord(separator)))
            if count > self.limit:
                raise self.exceeded()
        return length > _SHORT_BYTES or count > _FEW_VALUES

    def exceeded(self) -> TooLarge:
        """Return the error of JSON with more values."""
        return TooLarge(self._text)


def is_json(content_type: bytes) -> bool:
    """Return whether a content type is that of JSON, or of an application's format in JSON."""
    return bool(_CONTENT_TYPE.fullmatch(content_type.partition(b";")[0].strip().lower()))


def parse_json(body: bytes) -> Any:
    """Parse JSON.

    Raises:
        Malformed: it is not valid, has no single meaning, or is nested too deeply.
    """
    return _parse(body, allow_inf_nan=False)


def check_json(body: bytes) -> Any:
    """Check JSON that a framework's parser is going to read, which may be more lenient.

    Returns:
        What it parses to.

    Raises:
        Malformed: it is not valid, has no single meaning, or is nested too deeply.
        InvalidValues: numbers in it are NaN or infinite.
    """
    document = _parse(body, allow_inf_nan=True)
    if b"NaN" in body or b"Infinity" in body or _may_overflow(body):
        wrong = []
        count = 0
        for path, last in _not_finite(document):
            count += 1
            if count <= LISTED_ERRORS:
                field = ".".join(str(key) for key in [*path, last][1:])
                wrong.append((field, "Input should be a finite number"))
        if wrong:
            raise InvalidValues(wrong, count)
    return document


def _parse(body: bytes, *, allow_inf_nan: bool) -> Any:
    # The cache of strings makes small bodies faster, and those with many keys slower.
    try:
        return jiter.from_json(
            body,
            allow_inf_nan=allow_inf_nan,
            catch_duplicate_keys=True,
            cache_mode="all" if len(body) <= _FEW_VALUES else "none",
        )
    except ValueError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from None


def _may_overflow(body: bytes) -> bool:
    """Return whether JSON may have a number that parsers take for infinite, such as 1e999.

    It is cheap, and true of some other JSON: of long texts, and of long bodies.
    """
    if len(body) > _SHORT_BYTES:
        return True
    position = 0
    while len(body) - position > _FINITE_LENGTH:
        comma = body.rfind(b",", position, position + _FINITE_LENGTH)
        if comma < 0:
            return True
        position = comma + 1
    return any(exponent.search(body) for exponent in _LONG_EXPONENTS)


def _not_finite(document: Any) -> Iterator[tuple[list[Any], Any]]:
    """Yield the path of each number that is NaN or infinite, and its own key, in their order.

    The path begins with that of the document, None. It changes with the next step.
    """
    path: list[Any] = []
    levels: list[Iterator[tuple[Any, Any]]] = [iter([(None, document)])]
    while levels:
        for key, value in levels[-1]:
            if isinstance(value, float) and not math.isfinite(value):
                yield path, key
            elif isinstance(value, dict | list):
                path.append(key)
                children = value.items() if isinstance(value, dict) else enumerate(value)
                levels.append(iter(children))
                break
        else:
            levels.pop()
            if path:
                path.pop()
