"""Settings of your own, read from the environment or a ``.env`` file like those of the service.

This file is yours: an update of the template never touches it. Add a setting like this:

    greeting: str = Field(default="Hello", min_length=1, description="How to greet")

Its variable is OWN_GREETING. ``python -m service --help`` lists it, the service does not start with
a value that is not valid, and a route reads it as ``own_settings().greeting``.
"""

from functools import cache

from pydantic_settings import BaseSettings, SettingsConfigDict

from service.ops.settings import ENV_FILE, load


class OwnSettings(BaseSettings):
    """What may differ from one deployment of your code to another."""

    model_config = SettingsConfigDict(
        env_prefix="OWN_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore"
    )


@cache
def own_settings() -> OwnSettings:
    """Read the settings once."""
    return load(OwnSettings)
