"""The command line: serve the model, describe an artifact, write the OpenAPI document.

Modules that import the model's runtime are imported where they are used: the main process of
several workers must not hold a runtime's threads when it forks.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from service import manifest, process
from service.config import (
    ConfigError,
    Settings,
    load_settings,
    misspelt_variables,
    settings_table,
)
from service.manifest import ArtifactError
from service.own_settings import OwnSettings, own_settings
from service.process import CannotStart
from service.tensors import TensorSpec


def main() -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 used wrongly."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "manifest":
                _write_manifest(arguments)
            case "openapi":
                _write_openapi(load_settings())
            case _:
                own_settings()
                return _serve(load_settings())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (ArtifactError, CannotStart, OSError) as error:
        print(f"service: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(settings: Settings) -> int:
    for name, nearest in misspelt_variables():
        print(f"service: {name} is no setting, did you mean {nearest}?", file=sys.stderr)
    manifest.locate(manifest.read(settings.model_dir), settings.model_dir)
    with process.prepare(settings.workers):
        from service.serve import serve
        from service.telemetry import configure_logging

        configure_logging(settings)
        with contextlib.suppress(SystemExit):  # a server's own verdict; `process` knows better
            serve(settings)
        if message := process.failure():
            print(f"service: {message}", file=sys.stderr)
        return process.exit_code()


def _write_manifest(arguments: argparse.Namespace) -> None:
    from service import runtime

    artifact = Path(arguments.file)
    if not artifact.exists():
        raise ArtifactError(f"there is no {artifact}")
    parameters = dict(arguments.parameter)
    inputs, outputs = tuple(arguments.input), tuple(arguments.output)
    if not (inputs and outputs):
        found_inputs, found_outputs = runtime.inspect(artifact, parameters)
        inputs, outputs = inputs or found_inputs, outputs or found_outputs
    try:
        described = manifest.describe(
            artifact,
            name=arguments.name,
            version=arguments.version,
            runtime=runtime.RUNTIME,
            inputs=inputs,
            outputs=outputs,
            parameters=parameters,
        )
    except ValueError:
        raise ArtifactError(
            "--name and --version take up to 128 letters, digits, dots, dashes and underscores"
        ) from None
    path = described.write(artifact.parent)
    print(f"{path}: {described.name} {described.version}")
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            print(f"  {kind} {spec.name} {spec.datatype} {list(spec.shape)}")
    print(f"Serve it: SERVICE_MODEL_DIR={artifact.parent} SERVICE_TYPED_ENDPOINT=false", end=" ")
    print("python -m service")


def _write_openapi(settings: Settings) -> None:
    from service import app, openapi

    print(json.dumps(openapi.document(settings, app.openapi()), indent=2, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the model in SERVICE_MODEL_DIR. Without a command: start the server.",
        epilog="Settings, from the environment or a .env file:\n\n" + _settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("openapi", help="write the OpenAPI document to standard output")
    describe = commands.add_parser(
        "manifest", help="look into an artifact and write the manifest beside it"
    )
    describe.add_argument("file", metavar="FILE", help="the artifact, a file or a folder")
    describe.add_argument("--name", required=True, help="name of the model, as in its URL")
    describe.add_argument("--version", required=True, help="version of the model, as in its URL")
    for option in ("--input", "--output"):
        describe.add_argument(
            option,
            action="append",
            default=[],
            type=_tensor,
            metavar="NAME:DATATYPE:SHAPE",
            help="a tensor that the artifact does not tell, such as features:FP32:-1,4",
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
        raise argparse.ArgumentTypeError(f"'{text}' is no NAME:DATATYPE:SHAPE: {error}") from None


def _parameter(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no KEY=JSON") from None


if __name__ == "__main__":
    sys.exit(main())
