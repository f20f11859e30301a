"""The settings of the service, read from the environment and from a ``.env`` file."""

import difflib
import ipaddress
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

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

from service.ops import accelerator, platforms
from service.ops.endpoint_settings import OWN_PATHS, PREDICTION_PATHS, EndpointSettings

PREFIX: Final = "SERVICE_"
ENV_FILE: Final = ".env"
UNIX: Final = "unix"
"""Stands for all who connect to the Unix socket, who have no address."""

_SERVICE_LINK: Final = re.compile(r"\A(?:tcp|udp|sctp)://")

_PATH_PREFIX: Final = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)+")
_FURTHER_PATH: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_MODEL: Final = r"/v2/models/[^/]+(/versions/[^/]+)?"
_PROBES: Final = re.compile(rf"/v2/health/(live|ready)|{_MODEL}/ready")
_PREDICTIONS: Final = re.compile("|".join([*PREDICTION_PATHS, rf"{_MODEL}/infer"]))
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LONGEST_SOCKET: Final = 103
"""What macOS allows; Linux allows four more."""
_DEFAULT_PORT: Final = re.compile(r"\A(http://.*:80|https://.*:443)\Z")

Seconds = Annotated[float, Field(ge=0, le=86_400)]
S = TypeVar("S", bound=BaseSettings)


class SettingsInvalid(Exception):
    """The settings cannot be used. The text has one line for each wrong variable."""


class ServiceSettings(BaseSettings):
    """What may differ from one deployment to another, whatever endpoints the service has."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore"
    )

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(default=8000, ge=1, le=65_535, description="TCP port to listen on")
    unix_socket: Path | None = Field(
        default=None,
        description="Unix socket to listen on, instead of address and port; its user and group may "
        "connect",
    )
    workers: int = Field(
        default=1, ge=1, le=256, description="Worker processes, each with its own copy of the model"
    )
    graceful_timeout: Seconds = Field(
        default=30, description="Seconds for requests in flight to finish after SIGTERM"
    )
    keep_alive_timeout: Seconds = Field(
        default=75, ge=1, description="Seconds until an idle connection is closed"
    )
    header_timeout: Seconds = Field(
        default=10, ge=1, description="Seconds for the line and the headers of a request to arrive"
    )
    max_header_bytes: int = Field(
        default=64 * 2**10,
        ge=8 * 2**10,
        le=2**20,
        description="Largest size of the line and the headers of a request, in bytes",
    )
    max_connections: int = Field(
        default=0,
        ge=0,
        le=2**20,
        description="Largest number of open connections per worker; 0: what file descriptors allow",
    )
    drain_delay: Seconds = Field(
        default=0,
        description="Seconds from reporting 'not ready' to refusing connections, after SIGTERM",
    )
    tls_certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate chain; turns on TLS",
    )
    tls_key: FilePath | None = Field(
        default=None, description="PEM file with the certificate's key"
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="TCP port on which alone /metrics is served, over plain HTTP; 0: the port of "
        "the service",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated API keys; predictions need one of them, if there are any",
    )
    docs: bool = Field(default=True, description="Serve /docs and /openapi.json")
    root_path: str = Field(
        default="",
        description="Path prefix under which a proxy offers the service, such as /iris; the proxy "
        "may pass it on or take it away",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated addresses and networks, such as 10.0.0.0/8, whose "
        "X-Forwarded-For and X-Forwarded-Proto are believed; unix for all on the Unix socket",
    )
    health_path: str = Field(
        default="",
        description="Further path for probes, such as /health; it answers as /v2/health/ready",
    )
    predict_path: str = Field(
        default="",
        description="Further path for predictions, such as /score, as some platforms want one",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated origins, such as https://example.com, whose pages may use the "
        "service from a browser (CORS); * for all",
    )
    cors_credentials: bool = Field(
        default=False, description="Let pages of these origins send cookies along"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="json: one object per line; console: text for people; auto: console at a "
        "terminal, else json",
    )
    access_log: Literal["all", "problems", "off"] = Field(
        default="problems",
        description="Requests to log: all, those that failed (except 503) or were slow, or none",
    )
    slow_request: Seconds = Field(
        default=1, description="Seconds from which a request counts as slow"
    )

    model_dir: Path = Field(
        default=Path("models"), description="Folder with the artifact and manifest.json"
    )
    device: str = Field(
        default=accelerator.DEVICE, min_length=1, description="Device, by the runtime's name for it"
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads of the runtime per worker; 0: the worker's share of the CPUs",
    )
    warmup: bool = Field(default=True, description="Run every batch size once before being ready")

    request_timeout: Seconds = Field(
        default=30, gt=0, description="Seconds from the arrival of a request to its answer, or 504"
    )
    run_timeout: Seconds = Field(
        default=0,
        description="Seconds until a model that does not return counts as hung and its worker "
        "ends; 0: twice the request timeout, at least 60",
    )
    max_batch_size: int = Field(
        default=0,
        ge=0,
        description="Largest number of rows that run together; 0: up to 64, as warm-up finds best",
    )
    max_batch_latency: Seconds = Field(
        default=0.1, description="Longest batch in seconds, if warm-up chooses its size"
    )
    max_batch_delay: Seconds = Field(
        default=0, le=1, description="Seconds that a batch waits for more rows until it is full"
    )
    max_queue_size: PositiveInt = Field(
        default=4096, description="Largest number of rows that wait"
    )
    max_queue_bytes: PositiveInt = Field(
        default=256 * 2**20, description="Largest size of the tensors that wait, in bytes"
    )

    max_body_bytes: PositiveInt = Field(
        default=64 * 2**20, description="Largest body in bytes, as sent and when decompressed"
    )
    max_total_body_bytes: PositiveInt = Field(
        default=256 * 2**20,
        description="Largest size of all bodies that a worker holds at a time; more get a 503",
    )
    max_json_bytes: PositiveInt = Field(
        default=8 * 2**20,
        description="Largest JSON in bytes, when decompressed; binary tensors may be larger",
    )
    max_values: PositiveInt = Field(
        default=500_000,
        description="Largest number of values in JSON under /v2, counted by its commas, opening "
        "brackets and (for nine each) colons, and of elements in BYTES tensors; other binary "
        "tensors may have more",
    )
    max_tensors: PositiveInt = Field(
        default=64, description="Largest number of input tensors in a request"
    )
    max_elements: PositiveInt = Field(
        default=16 * 2**20, description="Largest number of elements in a tensor of a request"
    )
    max_outputs: PositiveInt = Field(
        default=64, description="Largest number of entries in 'outputs' of a request"
    )

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the service, or the Unix socket."""
        if self.unix_socket:
            return f"unix:{self.unix_socket}"
        scheme = "https" if self.tls_certificate else "http"
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.host, self.host)  # noqa: S104
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys = tuple(key.strip() for key in value.split(",") if key.strip())
        if not keys:
            raise ValueError("it is set, but has no key: unset it to serve without keys")
        return keys

    @field_validator("api_keys")
    @classmethod
    def _keys_must_be_hard_to_guess(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if len(text) < 16 or not (text.isascii() and text.isprintable()):
                raise ValueError("each key must have at least 16 printable ASCII characters")
        return keys

    @field_validator("root_path")
    @classmethod
    def _prefix_must_not_be_a_path_of_the_service(cls, prefix: str) -> str:
        if not prefix:
            return prefix
        if not _PATH_PREFIX.fullmatch(prefix):
            raise ValueError(
                "it must begin with / and not end with one, and have only letters, digits and "
                "'-', '.', '_', '~' between slashes"
            )
        if (first := prefix.split("/")[1]) in OWN_PATHS:
            raise ValueError(f"it must not begin with /{first}, where the service has a path")
        return prefix

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(proxy.strip() for proxy in value.split(",") if proxy.strip())

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_must_have_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if proxy != UNIX:
                try:
                    ipaddress.ip_network(proxy)
                except ValueError as error:
                    raise ValueError(f"not an address or a network: {error}") from None
        return proxies

    @field_validator("health_path")
    @classmethod
    def _health_path_must_be_free(cls, path: str) -> str:
        return _further_path(path, _PROBES)

    @field_validator("predict_path")
    @classmethod
    def _predict_path_must_be_free(cls, path: str) -> str:
        return _further_path(path, _PREDICTIONS)

    @model_validator(mode="after")
    def _further_paths_must_be_told_apart(self) -> Self:
        if self.health_path and self.health_path == self.predict_path:
            raise ValueError(f"{PREFIX}HEALTH_PATH and {PREFIX}PREDICT_PATH must differ")
        for name in ("health_path", "predict_path"):
            if self.root_path and f"{getattr(self, name)}/".startswith(f"{self.root_path}/"):
                raise ValueError(
                    f"{PREFIX}{name.upper()} must not begin with {PREFIX}ROOT_PATH, which is taken "
                    "from paths"
                )
        return self

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(origin.strip().lower() for origin in value.split(",") if origin.strip())

    @field_validator("cors_origins")
    @classmethod
    def _origins_must_be_as_browsers_send_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in origins and len(origins) > 1:
            raise ValueError("* stands alone: it allows all origins")
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin: it must be scheme://host or scheme://host:port, "
                    "without a path, a final /, or wildcards"
                )
            if _DEFAULT_PORT.search(origin):
                raise ValueError(f"{origin!r} must not have the port, which browsers leave out")
        return origins

    @model_validator(mode="after")
    def _credentials_need_origins(self) -> Self:
        if self.cors_credentials and (not self.cors_origins or "*" in self.cors_origins):
            raise ValueError(
                f"{PREFIX}CORS_CREDENTIALS needs {PREFIX}CORS_ORIGINS with the origins, not *"
            )
        return self

    @property
    def longest_run(self) -> float:
        """Seconds until a model that does not return counts as hung."""
        return self.run_timeout or max(60.0, 2 * self.request_timeout)

    @model_validator(mode="after")
    def _model_may_use_the_whole_time_of_a_request(self) -> Self:
        if 0 < self.run_timeout < self.request_timeout:
            raise ValueError(
                f"{PREFIX}RUN_TIMEOUT must not be shorter than {PREFIX}REQUEST_TIMEOUT"
            )
        return self

    @field_validator("unix_socket")
    @classmethod
    def _socket_must_be_possible(cls, path: Path | None) -> Path | None:
        if path is None:
            return path
        if sys.platform == "win32":
            raise ValueError("Unix sockets are not supported on Windows")
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            raise ValueError(f"its path must have no more than {_LONGEST_SOCKET} bytes")
        if not path.parent.is_dir():
            raise ValueError("its folder does not exist")
        return path

    @field_validator("workers")
    @classmethod
    def _needs_fork_or_spawn(cls, workers: int) -> int:
        if workers > 1 and sys.platform == "win32":
            raise ValueError("more than one worker is not supported on Windows")
        return workers

    @model_validator(mode="after")
    def _ports_must_differ(self) -> Self:
        if self.metrics_port == self.port:
            raise ValueError(f"{PREFIX}METRICS_PORT must differ from {PREFIX}PORT")
        return self

    @model_validator(mode="after")
    def _one_body_must_fit_into_all(self) -> Self:
        if self.max_total_body_bytes < self.max_body_bytes:
            raise ValueError(
                f"{PREFIX}MAX_TOTAL_BODY_BYTES must be at least {PREFIX}MAX_BODY_BYTES"
            )
        return self

    @model_validator(mode="after")
    def _socket_has_no_tls(self) -> Self:
        if self.unix_socket and self.tls_certificate:
            raise ValueError(f"{PREFIX}UNIX_SOCKET and {PREFIX}TLS_CERTIFICATE exclude each other")
        return self

    @model_validator(mode="after")
    def _tls_needs_a_certificate_and_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY belong together")
        if self.tls_certificate is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                    self.tls_certificate, self.tls_key, password=_no_passphrase
                )
            except OSError as error:
                raise ValueError(
                    f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY cannot be used: {error}"
                ) from None
        return self


class Settings(EndpointSettings, ServiceSettings):
    """What may differ from one deployment of the service to another."""


def _no_passphrase() -> str:
    """Refuse a key with a passphrase. Without this, OpenSSL asks for it at the terminal."""
    raise OSError("the key has a passphrase, which nobody can type: decrypt it with 'openssl pkey'")


def _further_path(path: str, same: re.Pattern[str]) -> str:
    """Check a further path. ``same``: paths of the service that answer as it does.

    Raises:
        ValueError: it is none, or a path of the service that answers otherwise.
    """
    if not path or same.fullmatch(path):
        return path
    if not _FURTHER_PATH.fullmatch(path):
        raise ValueError("it must begin with / and not end with one, and have no ? or #")
    if (first := path.split("/")[1]) in OWN_PATHS:
        raise ValueError(f"it must not begin with /{first}, where the service has a path")
    return path


def load_settings() -> Settings:
    """Read the settings of the service: its own, and what the platform says of the others.

    Raises:
        SettingsInvalid: the value of a variable is not valid.
    """
    given = from_platform()
    fixed: dict[str, Any] = {name: value for name, (value, _) in given.items()}
    if ignored_variables():
        default = fixed.get("port", Settings.model_fields["port"].default)
        fixed["port"] = _env_file().get(f"{PREFIX}PORT", default)
    return _load(Settings, fixed, {name: source for name, (_, source) in given.items()})


def from_platform() -> dict[str, platforms.Given]:
    """Return the settings that the platform gives, except those that are set.

    Raises:
        SettingsInvalid: two variables of it say different things.
    """
    own = {name.upper() for name in (*_env_file(), *os.environ.keys() - ignored_variables())}
    wanted = [name for name in Settings.model_fields if _variable(name, Settings) not in own]
    try:
        return platforms.find(wanted)
    except platforms.PlatformConflict as conflict:
        raise SettingsInvalid(str(conflict)) from None


def load(kind: type[S]) -> S:
    """Read the settings of a class.

    Raises:
        SettingsInvalid: the value of a variable is not valid, or is missing; or the file cannot be
            read.
    """
    return _load(kind, {}, {})


def _load(kind: type[S], fixed: dict[str, Any], sources: Mapping[str, str]) -> S:
    """Read settings. ``fixed``: values that the environment does not change.

    ``sources``: the variables that errors name, where they are not those of the settings.
    """
    try:
        return kind(**fixed)
    except ValidationError as error:
        raise SettingsInvalid("\n".join(_explain(error, kind, sources))) from None
    except SettingsError as error:
        raise SettingsInvalid(str(error)) from None
    except (UnicodeDecodeError, OSError) as error:
        raise _unreadable(error) from None


def _env_file() -> dict[str, str | None]:
    try:
        return dotenv_values(ENV_FILE)
    except (UnicodeDecodeError, OSError) as error:
        raise _unreadable(error) from None


def _unreadable(error: UnicodeDecodeError | OSError) -> SettingsInvalid:
    if isinstance(error, OSError):
        return SettingsInvalid(f"{ENV_FILE} cannot be read: {error.strerror}")
    return SettingsInvalid(f"{ENV_FILE} is not in UTF-8: save it as UTF-8")


def ignored_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return variables that Kubernetes sets for a Service of the name ``service``.

    Source: the Kubernetes documentation of Services, "environment variables": the address of each
    Service in the namespace, as in ``SERVICE_PORT=tcp://10.0.0.11:8000``.
    """
    variable = f"{PREFIX}PORT"
    return [variable] if _SERVICE_LINK.match(environment.get(variable, "")) else []


def misspelt_variables(environment: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return variables that look like misspelt settings, each with the most similar setting."""
    given = {**_env_file(), **(os.environ if environment is None else environment)}
    known = [_variable(name, Settings) for name in Settings.model_fields]
    found = []
    for name in sorted(given):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            found += [(name, nearest[0])] if nearest else []
    return found


def settings_table(kind: type[BaseSettings] = Settings) -> list[tuple[str, str, str]]:
    """Return variable, default and description of every setting of a class."""
    return [
        (_variable(name, kind), _default(field), field.description or "")
        for name, field in kind.model_fields.items()
    ]


def _variable(field: str, kind: type[BaseSettings]) -> str:
    """Return the environment variable of a setting."""
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


def _explain(
    error: ValidationError, kind: type[BaseSettings], sources: Mapping[str, str]
) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        own = _variable(name, kind) if name in kind.model_fields else name
        given = sources.get(name, own)
        reason = item["msg"].removeprefix("Value error, ")
        lines.append(f"{given}: {reason}" if given else reason)
    return lines
