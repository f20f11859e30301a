"""Strict JSON (RFC 8259): valid UTF-8, no repeated keys, no NaN or Infinity."""

import math
from collections.abc import Iterator
from typing import Any

import jiter

from service.core.errors import TooLarge
from service.web.errors import InvalidValues, Malformed


def parse_json(body: bytes) -> Any:
    """Parse JSON.

    Raises:
        Malformed: it is not valid, has no single meaning, or is nested too deeply.
    """
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from None


def check_json(body: bytes, max_instances: int | None = None) -> None:
    """Check JSON that a framework's parser is going to read, which may be more lenient.

    ``max_instances``: the limit of the list ``instances``, if the body is to have one.

    Raises:
        Malformed: it is not valid, has no single meaning, or is nested too deeply.
        InvalidValues: numbers in it are NaN or infinite.
        TooLarge: it has too many instances.
    """
    try:
        document = jiter.from_json(body, allow_inf_nan=True, catch_duplicate_keys=True)
    except ValueError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from None
    if b"NaN" in body or b"Infinity" in body:
        wrong = [(path, "Input should be a finite number") for path in _not_finite(document)]
        if wrong:
            raise InvalidValues(wrong)
    if max_instances is not None and isinstance(document, dict):
        instances = document.get("instances")
        if isinstance(instances, list) and len(instances) > max_instances:
            raise TooLarge(f"A request may have up to {max_instances} instances.")


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of numbers that are NaN or infinite."""
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        if isinstance(value, float) and not math.isfinite(value):
            yield path
        return
    for key, child in children:
        yield from _not_finite(child, f"{path}.{key}" if path else str(key))
