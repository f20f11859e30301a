"""The service under Ray Serve: replicas of ``service.main:app`` behind Ray's proxies.

A cluster finds ``application:app`` by ``serve.yaml`` or ``rayservice.yaml``; ``run.py`` serves it
on this machine.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import Mapping
from typing import Any, Final

import ray
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ray import serve

from service.ops import process
from service.ops.process import EXIT_MARGIN
from service.ops.settings import (
    ENV_FILE,
    PREFIX,
    Seconds,
    Settings,
    SettingsInvalid,
    load,
    load_settings,
)
from service.settings import own_settings

_LARGEST_BATCH: Final = 64
"""Rows of the largest batch that warm-up chooses by itself."""
_POLL: Final = 0.1
"""Seconds between two looks at a model that is being loaded."""
_HEALTH_PERIOD: Final = 2.0
_HEALTH_TIMEOUT: Final = 10.0
"""Ray replaces a replica whose check failed three times."""
_TRIES: Final = 3
"""Replicas that may fail to start before Ray gives the deployment up."""
_PROXY_MARGIN: Final = 1.0
"""Seconds that proxies wait beyond a request's deadline, so that the service's 504 comes first."""
_STOP_WAIT: Final = 2.0
"""Seconds until all proxies know that a replica stops."""
_RETRY_AFTER: Final = 1
LOGGING: Final = {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}
"""Of Ray Serve; the service logs its requests itself."""
_ELSEWHERE: Final = (
    "unix_socket",
    "metrics_port",
    "header_timeout",
    "max_header_bytes",
    "max_connections",
)
"""Settings of the service's own servers that Ray's proxies do not have."""
_OF_PROXIES: Final = ("tls_certificate", "tls_key")
"""Settings that proxies have as ``http_options``."""


class RaySettings(BaseSettings):
    """What only Ray Serve needs to know. SERVICE_WORKERS says how many replicas there are."""

    model_config = SettingsConfigDict(
        env_prefix=f"{PREFIX}RAY_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore"
    )

    max_replicas: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Largest number of replicas, of which SERVICE_WORKERS is the smallest; 0: that",
    )
    target_ongoing_requests: int = Field(
        default=0,
        ge=0,
        description="Requests in each replica that there should be; 0: its largest batch",
    )
    upscale_delay: Seconds = Field(
        default=30, gt=0, description="Seconds of much load before replicas are added"
    )
    downscale_delay: Seconds = Field(
        default=300, gt=0, description="Seconds of little load before replicas are taken away"
    )


class Replica:
    """The application in one process, which Ray starts, checks and stops.

    Ray's ingress asks it for the application, and gives that the lifespan.
    """

    def __init__(self) -> None:
        self._process: Final = contextlib.ExitStack()
        self._front: Any = None
        self._was_ready = False

    def __serve_build_asgi_app__(self) -> Any:
        """Import the application, in the process that is going to serve it."""
        threads = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
        os.environ[f"{PREFIX}THREADS"] = str(max(1, threads))
        os.environ[f"{PREFIX}WORKERS"] = "1"
        self._process.enter_context(process.hosted())
        from service.main import app

        self._front = app
        return app

    async def check_health(self) -> None:
        """Wait until the model is ready; later, check that it still is.

        Raises:
            RuntimeError: the service cannot serve, or can no more.
        """
        while not self._front.engine.ready:
            if reason := process.failure():
                raise RuntimeError(reason)
            if self._was_ready:
                raise RuntimeError("the service is not ready any more")
            await asyncio.sleep(_POLL)
        self._was_ready = True

    def __del__(self) -> None:
        self._process.close()


def deployment_options(settings: Settings, own: RaySettings) -> dict[str, Any]:
    """Return the options of the deployment that follow from the settings.

    Raises:
        SettingsInvalid: a setting has no meaning under Ray Serve.
    """
    given = sorted(settings.model_fields_set.intersection(_ELSEWHERE))
    if given:
        raise SettingsInvalid(
            "\n".join(
                f"{PREFIX}{name.upper()}: Ray's proxies do not have it, unset it" for name in given
            )
        )
    batch = settings.max_batch_size or _LARGEST_BATCH
    if 0 < own.max_replicas < settings.workers:
        least = f"{PREFIX}WORKERS, {settings.workers}"
        raise SettingsInvalid(f"{PREFIX}RAY_MAX_REPLICAS: it must not be less than {least}")
    options: dict[str, Any] = {
        "name": "Replica",
        "num_replicas": settings.workers,
        "max_ongoing_requests": 2 * batch,
        "max_queued_requests": settings.max_queue_size,
        "backpressure_config": {"status_code": 503, "retry_after_s": _RETRY_AFTER},
        "health_check_period_s": _HEALTH_PERIOD,
        "health_check_timeout_s": _HEALTH_TIMEOUT,
        "graceful_shutdown_wait_loop_s": max(settings.drain_delay, _STOP_WAIT),
        "graceful_shutdown_timeout_s": max(settings.drain_delay, _STOP_WAIT)
        + settings.graceful_timeout
        + EXIT_MARGIN,
        "max_constructor_retry_count": _TRIES,
        "ray_actor_options": {
            "num_cpus": max(1, settings.threads),
            "num_gpus": int(settings.device.startswith("cuda")),
        },
        "logging_config": LOGGING,
    }
    if own.max_replicas:
        del options["num_replicas"]
        options["autoscaling_config"] = {
            "min_replicas": settings.workers,
            "max_replicas": own.max_replicas,
            "target_ongoing_requests": own.target_ongoing_requests or batch,
            "upscale_delay_s": own.upscale_delay,
            "downscale_delay_s": own.downscale_delay,
            "look_back_period_s": own.upscale_delay,
            "metrics_interval_s": own.upscale_delay / 3,
        }
    return options


def http_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the proxies that follow from the settings."""
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "request_timeout_s": settings.request_timeout + _PROXY_MARGIN,
        "keep_alive_timeout_s": math.ceil(settings.keep_alive_timeout),
    }
    if settings.tls_certificate:
        options["ssl_certfile"] = str(settings.tls_certificate)
        options["ssl_keyfile"] = str(settings.tls_key)
    return options


def application(settings: Settings, own: RaySettings) -> Any:
    """Return the application that Ray Serve runs.

    Raises:
        SettingsInvalid: a setting has no meaning under Ray Serve.
    """
    options = deployment_options(settings, own)
    return serve.deployment(**options)(serve.ingress()(Replica)).bind()


def app(arguments: Mapping[str, object]) -> Any:
    """Return the application for ``import_path`` of a configuration.

    Raises:
        SettingsInvalid: a setting is not valid, or has no meaning there.
        ValueError: the configuration has arguments.
    """
    if arguments:
        raise ValueError("'args' must be empty: settings are in 'env_vars'")
    settings = load_settings()
    for name in _OF_PROXIES:
        if name in settings.model_fields_set:
            raise SettingsInvalid(f"{PREFIX}{name.upper()}: say it in http_options instead")
    own_settings()
    return application(settings, load(RaySettings))
