"""The settings of the service, read from the environment and from a ``.env`` file."""

import difflib
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from dotenv import dotenv_values
from pydantic import (
    Field,
    FilePath,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

PREFIX: Final = "SERVICE_"
ENV_FILE: Final = ".env"

Seconds = Annotated[float, Field(ge=0, le=86_400)]
S = TypeVar("S", bound=BaseSettings)


class ConfigError(Exception):
    """The settings cannot be used: one line per variable that is wrong."""


class Settings(BaseSettings):
    """What the service does, as far as it may differ from one place to another."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore"
    )

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(default=8000, ge=1, le=65_535, description="TCP port to listen on")
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes, each with a copy of the model"
    )
    graceful_timeout: Seconds = Field(
        default=30, description="Seconds that requests in flight have to finish after SIGTERM"
    )
    drain_delay: Seconds = Field(
        default=0,
        description="Seconds between telling 'not ready' and refusing connections at SIGTERM",
    )
    tls_certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate chain; with it the service speaks TLS",
    )
    tls_key: FilePath | None = Field(
        default=None, description="PEM file with the certificate's key"
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="Comma-separated keys, one of which a prediction needs; none: open"
    )
    docs: bool = Field(default=True, description="Serve /docs and /openapi.json")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged"
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or text for a person"
    )
    access_log: Literal["all", "problems", "off"] = Field(
        default="problems",
        description="Requests to log: all, those that failed (not with 503) or were slow, none",
    )
    slow_request: Seconds = Field(
        default=1, description="Seconds from which a request counts as slow"
    )

    model_dir: Path = Field(
        default=Path("models"), description="Folder of the artifact and manifest.json"
    )
    device: str = Field(default="cpu", min_length=1, description="Device, as the runtime names it")
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads of the runtime per worker; 0: its share of the CPUs",
    )
    typed_endpoint: bool = Field(
        default=True,
        description="Serve /predict; switch off for a model that model.py does not describe",
    )
    warm_up: bool = Field(default=True, description="Run every batch size once before being ready")

    deadline: Seconds = Field(
        default=30, gt=0, description="Seconds from the arrival of a request to its answer or a 504"
    )
    batch_max_rows: int = Field(
        default=0,
        ge=0,
        description="Rows that may run together at most; 0: what warm-up finds to pay, 64 at most",
    )
    batch_latency_budget: Seconds = Field(
        default=0.1,
        description="Seconds that a batch may take, if its size is left to warm-up",
    )
    batch_delay: Seconds = Field(
        default=0, le=1, description="Seconds to wait for company before a batch that is not full"
    )
    queue_max_rows: PositiveInt = Field(default=4096, description="Rows that may wait at most")
    queue_max_bytes: PositiveInt = Field(
        default=256 * 2**20, description="Bytes of tensors that may wait at most"
    )

    max_body_bytes: PositiveInt = Field(
        default=64 * 2**20, description="Bytes of a body at most, as sent and decompressed"
    )
    max_json_depth: int = Field(
        default=64, ge=4, le=200, description="Nesting of a JSON body at most"
    )
    max_instances: PositiveInt = Field(
        default=10_000, description="Instances of one /predict at most"
    )
    max_tensors: PositiveInt = Field(default=64, description="Input tensors of one request at most")
    max_elements: PositiveInt = Field(
        default=16 * 2**20, description="Elements of one tensor in a request at most"
    )
    max_outputs: PositiveInt = Field(
        default=64, description="Entries in 'outputs' of a request at most"
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(key.strip() for key in value.split(",") if key.strip())

    @field_validator("api_keys")
    @classmethod
    def _keys_must_be_hard_to_guess(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if len(text) < 16 or not (text.isascii() and text.isprintable()):
                raise ValueError("each key must have at least 16 printable ASCII characters")
        return keys

    @field_validator("workers")
    @classmethod
    def _needs_fork_or_spawn(cls, workers: int) -> int:
        if workers > 1 and sys.platform == "win32":
            raise ValueError("more than one worker is not supported on Windows")
        return workers

    @model_validator(mode="after")
    def _tls_needs_a_certificate_and_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY belong together")
        if self.tls_certificate is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                    self.tls_certificate, self.tls_key
                )
            except OSError as error:
                raise ValueError(
                    f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY cannot be used: {error}"
                ) from None
        return self


def load_settings() -> Settings:
    """Read the settings of the service.

    Raises:
        ConfigError: a variable has a value that it cannot have.
    """
    return load(Settings)


def load(kind: type[S]) -> S:
    """Read the settings of a class.

    Raises:
        ConfigError: a variable has a value that it cannot have, or none and needs one.
    """
    try:
        return kind()
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, kind))) from None
    except SettingsError as error:
        raise ConfigError(str(error)) from None


def misspelt_variables(environment: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Find variables that look like a setting but are none, each with the setting nearest to it."""
    given = {**dotenv_values(ENV_FILE), **(os.environ if environment is None else environment)}
    known = [_variable(name, Settings) for name in Settings.model_fields]
    found = []
    for name in sorted(given):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            found += [(name, nearest[0])] if nearest else []
    return found


def settings_table(kind: type[BaseSettings] = Settings) -> list[tuple[str, str, str]]:
    """List variable, default and description of every setting of a class."""
    return [
        (_variable(name, kind), _default(field), field.description or "")
        for name, field in kind.model_fields.items()
    ]


def _variable(field: str, kind: type[BaseSettings]) -> str:
    """Name the environment variable of a setting."""
    alias = kind.model_fields[field].validation_alias
    if isinstance(alias, str):
        return alias.upper()
    return f"{kind.model_config.get('env_prefix', '')}{field}".upper()


def _default(field: FieldInfo) -> str:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _explain(error: ValidationError, kind: type[BaseSettings]) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        given = _variable(name, kind) if name in kind.model_fields else name
        reason = item["msg"].removeprefix("Value error, ")
        lines.append(f"{given}: {reason}" if given else reason)
    return lines
