"""Serve the model with Ray Serve on this machine: ``make ray``."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final

from service.core import manifest
from service.core.manifest import ArtifactError
from service.ops.process import CannotStart
from service.ops.settings import Settings, SettingsInvalid, load, load_settings
from service.settings import own_settings

_NAME: Final = "default"
_ENVIRONMENT: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps Ray's own ports on loopback, also on Linux
    "RAY_USAGE_STATS_ENABLED": "0",
}


def main() -> int:
    """Serve until SIGINT or SIGTERM.

    Returns:
        The exit code: 0 stopped, 1 failed, 2 wrong settings.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before Ray is imported
    try:
        import application
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        print("service: Ray is not installed: run 'uv sync --group ray'", file=sys.stderr)
        return 1
    try:
        own_settings()
        settings = load_settings()
        served = application.application(settings, load(application.RaySettings))
        manifest.locate(manifest.read(settings.model_dir), settings.model_dir)
        _serve(settings, served)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return 2
    except (ArtifactError, CannotStart, OSError) as error:
        print(f"service: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(settings: Settings, served: Any) -> None:
    """Start Ray, its proxy and the replicas; at a signal let them finish what they have.

    Raises:
        CannotStart: the replicas do not start.
    """
    import ray
    from application import LOGGING, http_options
    from ray import serve

    ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1")
    signal.signal(signal.SIGTERM, _stop)  # Ray's own handler ends the process at once
    try:
        serve.start(
            proxy_location="HeadOnly", http_options=http_options(settings), logging_config=LOGGING
        )
        try:
            serve.run(served, name=_NAME)
        except RuntimeError as error:
            raise CannotStart(_reason(serve.status()) or str(error)) from None
        threading.Event().wait()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        serve.delete(_NAME)  # waits for the requests in flight; a shutdown would not
    finally:
        serve.shutdown()
        ray.shutdown()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _reason(status: Any) -> str:
    """Return why the replicas do not start: the last line of what Ray tells of them."""
    deployments = status.applications[_NAME].deployments.values()
    lines = [line for each in deployments for line in each.message.splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("RuntimeError: ") if lines else ""


if __name__ == "__main__":
    sys.exit(main())
