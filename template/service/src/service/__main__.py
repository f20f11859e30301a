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
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from service.core import artifact_kinds, cpu, examples, manifest, trial
from service.core.manifest import ArtifactError, Manifest
from service.core.model_thread import THREAD_NAME
from service.core.run import checked
from service.core.tensors import TensorSpec
from service.core.trial import Verdict
from service.interfaces import Runtime, Server
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
                _write_manifest(arguments)
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


def _write_manifest(arguments: argparse.Namespace) -> None:
    from service import runtime

    chosen: Runtime = runtime
    artifact = Path(arguments.file)
    if not artifact.exists():
        raise ArtifactError(f"{artifact} does not exist")
    if not artifact.is_dir():
        manifest.check_file(artifact)
    artifact_kinds.check(artifact, chosen.RUNTIME)
    parameters = dict(arguments.parameter)
    inputs, outputs = tuple(arguments.input), tuple(arguments.output)
    if not (inputs and outputs):
        found = chosen.inspect(artifact, parameters)
        inputs, outputs = inputs or found.inputs, outputs or found.outputs
    try:
        described = manifest.describe(
            artifact,
            name=arguments.name,
            version=arguments.version,
            runtime=chosen.RUNTIME,
            inputs=inputs,
            outputs=outputs,
            batch=arguments.batch,
            parameters=parameters,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["loc"][0] in ("name", "version"):
            raise ArtifactError(
                "--name and --version may have up to 128 letters, digits, dots, dashes and "
                "underscores"
            ) from None
        raise ArtifactError(problem["msg"].removeprefix("Value error, ")) from None
    verdict = _try_out(described, artifact, chosen)
    path = described.write(artifact.parent)
    print(f"{path}: {described.name} {described.version}")
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            print(f"  {kind} {spec.name} {spec.datatype} {list(spec.shape)}")
    if verdict.batched:
        print("  requests may share a batch" + (f": {verdict.reason}" if verdict.reason else ""))
    else:
        print(f"  requests run one at a time: {verdict.reason}")
    print(f"Serve it: SERVICE_MODEL_DIR={artifact.parent} SERVICE_PREDICT_ENDPOINT=false", end=" ")
    print("python -m service")


def _try_out(described: Manifest, artifact: Path, runtime: Runtime) -> Verdict:
    """Load the model and run it, so that what is wrong with it shows now.

    Raises:
        ArtifactError: it cannot be loaded or run, or does not fit the manifest.
    """
    device = Settings.model_fields["device"].default
    model = runtime.load(artifact, described, threads=cpu.threads_per_worker(1), device=device)
    manifest.check_signature(described, model.signature)
    inputs = described.input_specs()
    return trial.try_out(
        checked(model, described.output_specs()),
        described,
        [*examples.read(artifact.parent, inputs), *examples.made_up(inputs)],
    )


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
    describe = commands.add_parser(
        "manifest", help="inspect an artifact and write the manifest beside it"
    )
    describe.add_argument("file", metavar="FILE", help="the artifact, a file or a folder")
    describe.add_argument("--name", required=True, help="name of the model, part of its URL")
    describe.add_argument("--version", required=True, help="version of the model, part of its URL")
    for option in ("--input", "--output"):
        describe.add_argument(
            option,
            action="append",
            default=[],
            type=_tensor,
            metavar="NAME:DATATYPE:SHAPE",
            help="a tensor that the artifact does not describe, such as features:FP32:-1,4",
        )
    describe.add_argument(
        "--batch",
        choices=["auto", "always", "never"],
        default="auto",
        help="whether requests may share a batch: if running them shows it; insist; not at all",
    )
    describe.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="KEY=JSON",
        help="a parameter of the runtime",
    )
    return parser


def _settings_help() -> str:
    return "\n".join(
        f"  {variable:<29} {description}" + (f" [{default}]" if default else "")
        for variable, default, description in settings_table(Settings) + settings_table(OwnSettings)
    )


def _tensor(text: str) -> TensorSpec:
    try:
        name, datatype, shape = text.rsplit(":", 2)
        return TensorSpec(name, datatype.upper(), tuple(int(size) for size in shape.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:DATATYPE:SHAPE: {error}") from None


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
