"""Settings of your own, read as the service's are: from the environment or a ``.env`` file.

This file is yours: an update of the template never touches it. A setting looks like this:

    greeting: str = Field(default="Hello", min_length=1, description="How to greet")

Its variable is OWN_GREETING. `python -m service --help` lists it, a value that it cannot have stops
the start with one line, and a route reads it as `own_settings().greeting`.
"""

from functools import cache

from pydantic_settings import BaseSettings, SettingsConfigDict

from service.config import ENV_FILE, load


class OwnSettings(BaseSettings):
    """What your routes and your model do, as far as it may differ from one place to another."""

    model_config = SettingsConfigDict(
        env_prefix="OWN_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore"
    )


@cache
def own_settings() -> OwnSettings:
    """Read the settings once."""
    return load(OwnSettings)
