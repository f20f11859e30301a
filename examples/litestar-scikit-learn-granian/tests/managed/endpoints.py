"""The endpoints of this service, for tests that hold for each of them."""

from typing import Any, Final

JSON_PATHS: Final = ("/predict", "/own/orders")
"""Where the framework answers a POST with JSON: /predict, and a route in ``stand_in/routes.py``."""

ALL_ENDPOINTS: Final[dict[str, Any]] = {"predict_endpoint": True}
"""Settings of a service that has them all."""

FOR_ANY_MODEL: Final[dict[str, Any]] = {"predict_endpoint": False}
"""Settings of a service whose model predict.py need not describe."""
