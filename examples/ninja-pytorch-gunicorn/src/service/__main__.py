"""The command line: serve the model, describe an artifact, write the OpenAPI document.

The server, the runtime and the framework are imported only where they are used: the main process
must not hold the threads of a runtime when it forks its workers.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # As process 1 of a container, Python would ignore SIGTERM until a server handles it. Nothing is
    # to be cleaned up yet, and an exception could meet an extension module in its initialization.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import argparse
import contextlib
import json
import logging
import threading
from typing import NoReturn

from service.core import manifest
from service.core.manifest import ArtifactError
from service.core.model_thread import THREAD_NAME
from service.interfaces import Server
from service.ops import platforms, process
from service.ops.logs import configure_logging
from service.ops.process import CannotStart
from service.ops.settings import (
    Settings,
    SettingsInvalid,
    from_platform,
    ignored_variables,
    load_settings,
    misspelt_variables,
    settings_table,
)
from service.ops.supervisor import listen
from service.scaffold.arguments import add_arguments
from service.scaffold.report import prints_to_stderr
from service.settings import OwnSettings, own_settings

log = logging.getLogger("service")


def main() -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "manifest":
                with prints_to_stderr(wanted=arguments.json):
                    from service import runtime
                    from service.scaffold.command import describe

                describe(arguments, runtime)
            case "openapi":
                _write_openapi()
            case command:
                if command == "serve":
                    platforms.start_sagemaker()
                own_settings()
                return _serve(load_settings())
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return 2
    except (ArtifactError, CannotStart, OSError) as error:
        print(f"service: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(settings: Settings) -> int:
    for name, nearest in misspelt_variables():
        print(f"service: {name} is not a setting, did you mean {nearest}?", file=sys.stderr)
    manifest.locate(manifest.read(settings.model_dir), settings.model_dir)
    from service import server

    _check_metrics_port(settings)
    with process.prepare(settings.workers):
        process.on_stop(lambda *_: sys.exit(0), delay=0)
        configure_logging(settings)
        for name in ignored_variables():
            log.warning("%s is ignored: Kubernetes set it, for the Service 'service'", name)
        if given := from_platform():
            told = ", ".join(f"{name} {value} ({by})" for name, (value, by) in given.items())
            log.info("the platform says: %s", told)
        has_page = settings.docs and not settings.unix_socket
        docs = f", documentation at {settings.url}/docs" if has_page else ""
        log.info("starting at %s%s", settings.url, docs)
        chosen: Server = server
        with contextlib.suppress(SystemExit):  # `process` knows whether the service failed
            chosen.serve(settings)
        if settings.unix_socket:
            settings.unix_socket.unlink(missing_ok=True)
        if message := process.failure() or (None if process.draining() else process.deaths()):
            print(f"service: {message}", file=sys.stderr)
        return process.exit_code()


def _check_metrics_port(settings: Settings) -> None:
    """Check that nothing listens there: workers share the port, with whatever else would."""
    if settings.metrics_port:
        try:
            listen(settings.host, settings.metrics_port).close()
        except OSError as error:
            raise CannotStart(f"SERVICE_METRICS_PORT cannot be used: {error.strerror}") from None


def _write_openapi() -> None:
    from service.main import app

    print(json.dumps(app.openapi(), indent=2, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the model in SERVICE_MODEL_DIR. Without a command, start the server.",
        epilog="Settings, read from the environment or a .env file:\n\n" + _settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "serve", help="serve as SageMaker wants it: port 8080, /ping, /invocations, /opt/ml/model"
    )
    commands.add_parser("openapi", help="write the OpenAPI document to standard output")
    add_arguments(
        commands.add_parser("manifest", help="inspect an artifact and write the manifest beside it")
    )
    return parser


def _settings_help() -> str:
    return "\n".join(
        f"  {variable:<29} {description}" + (f" [{default}]" if default else "")
        for variable, default, description in settings_table(Settings) + settings_table(OwnSettings)
    )


def _exit(code: int) -> NoReturn:
    """End the process, also while a model is still being loaded or run.

    Python would stop the model's thread in the middle of the runtime's code, which aborts the
    process with another exit code.
    """
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
