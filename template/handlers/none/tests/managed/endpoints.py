"""The endpoints of this service, for tests that hold for each of them."""

from typing import Any, Final

JSON_PATHS: Final = ("/own/orders",)
"""Where the framework answers a POST with JSON: a route in ``stand_in/routes.py``."""

ALL_ENDPOINTS: Final[dict[str, Any]] = {}
"""Settings of a service that has them all."""

FOR_ANY_MODEL: Final[dict[str, Any]] = {}
"""Settings of a service that takes any model."""
