"""The settings of the endpoints beside the protocol."""

from typing import Final

from pydantic import BaseModel, Field, PositiveInt

OWN_PATHS: Final = frozenset({"docs", "metrics", "openapi.json", "predict", "v2"})
"""First segments of the service's own paths. With a prefix that is one of them, a path could be
meant with or without it."""
PREDICTION_PATHS: Final[tuple[str, ...]] = ("/predict",)
"""Paths that take instances."""


class EndpointSettings(BaseModel):
    """What may differ from one deployment to another, of /predict and the owner's routes."""

    predict_endpoint: bool = Field(
        default=True,
        description="Serve /predict; switch it off for a model that predict.py does not describe",
    )
    max_predict_values: PositiveInt = Field(
        default=100_000,
        description="Largest number of values in JSON for /predict and your routes, counted by its "
        "commas, colons and opening brackets",
    )
    max_instances: PositiveInt = Field(
        default=10_000, description="Largest number of instances in a request to /predict"
    )
