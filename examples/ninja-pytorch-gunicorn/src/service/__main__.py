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
import re
import threading
from typing import Any, NoReturn

from service.core import manifest
from service.core.manifest import ArtifactError
from service.core.model_thread import THREAD_NAME
from service.core.tensors import TensorSpec
from service.interfaces import Server
from service.ops import process
from service.ops.logs import configure_logging
from service.ops.process import CannotStart
from service.ops.settings import (
    Settings,
    SettingsInvalid,
    ignored_variables,
    load_settings,
    misspelt_variables,
    settings_table,
)
from service.settings import OwnSettings, own_settings

log = logging.getLogger("service")


def main() -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "manifest":
                from service import runtime
                from service.scaffold.command import describe

                describe(arguments, runtime)
            case "openapi":
                _write_openapi()
            case _:
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

    with process.prepare(settings.workers):
        process.on_stop(lambda *_: sys.exit(0), delay=0)
        configure_logging(settings)
        for name in ignored_variables():
            log.warning("%s is ignored: Kubernetes set it, for the Service 'service'", name)
        docs = f", documentation at {settings.url}/docs" if settings.docs else ""
        log.info("starting at %s%s", settings.url, docs)
        chosen: Server = server
        with contextlib.suppress(SystemExit):  # `process` knows whether the service failed
            chosen.serve(settings)
        if message := process.failure() or (None if process.draining() else process.deaths()):
            print(f"service: {message}", file=sys.stderr)
        return process.exit_code()


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
    commands.add_parser("openapi", help="write the OpenAPI document to standard output")
    _add_manifest_arguments(
        commands.add_parser("manifest", help="inspect an artifact and write the manifest beside it")
    )
    return parser


def _add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the artifact, a file or a folder")
    parser.add_argument("--name", required=True, help="name of the model, part of its URL")
    parser.add_argument("--version", required=True, help="version of the model, part of its URL")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=_tensor,
        metavar="NAME:DATATYPE:SHAPE",
        help="an input that the artifact does not describe, such as features:FP32:-1,4 (-1 for "
        "what varies), or rate:INT64: for a scalar",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        type=_output,
        metavar="NAME[:DATATYPE:SHAPE]",
        help="an output to serve; without any, all are served",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        type=_renaming,
        metavar="OLD=NEW",
        help="another name for a tensor of the artifact, such as 23=boxes",
    )
    parser.add_argument(
        "--batch",
        choices=["auto", "always", "never"],
        default="auto",
        help="whether requests may share a batch: if running them shows it; insist; not at all",
    )
    parser.add_argument(
        "--pad-batches",
        action="store_true",
        help="fill batches up to the next size that warm-up runs, for runtimes that compile the "
        "model for each size",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="KEY=JSON",
        help="a parameter of the runtime",
    )
    parser.add_argument(
        "--write-predict",
        action="store_true",
        help="also write a first src/service/predict.py, and what the model answers to it into "
        "tests/golden.json; a file that you edited stays, and the new one is written beside it",
    )
    parser.add_argument(
        "--columns",
        type=lambda text: text.split(","),
        metavar="NAME,NAME,…",
        help="names for the columns of the model's one input; with it, predict.py is written too",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --write-predict, write over files that you edited",
    )


def _settings_help() -> str:
    return "\n".join(
        f"  {variable:<29} {description}" + (f" [{default}]" if default else "")
        for variable, default, description in settings_table(Settings) + settings_table(OwnSettings)
    )


def _tensor(text: str) -> TensorSpec:
    try:
        name, datatype, shape = text.rsplit(":", 2)
        sizes = tuple(int(size) for size in shape.split(",")) if shape else ()
        return TensorSpec(name, datatype.upper(), sizes)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:DATATYPE:SHAPE: {error}") from None


def _output(text: str) -> TensorSpec | str:
    """Read a description of a tensor, or a name alone, which may have a colon in it."""
    return _tensor(text) if re.search(r":[A-Za-z]\w*:[-\d,]*\Z", text) else text


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.rpartition("=")
    if not (old and new):
        raise argparse.ArgumentTypeError(f"'{text}' is not OLD=NEW")
    return old, new


def _parameter(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=JSON") from None


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
