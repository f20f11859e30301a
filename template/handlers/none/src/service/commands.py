"""The commands beside serving: describe an artifact.

The runtime is imported only where it is used: the main process must not hold its threads when it
forks its workers.
"""

import argparse
from typing import Any

from service.scaffold.arguments import add_arguments as add_manifest
from service.scaffold.report import prints_to_stderr


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands to the command line."""
    add_manifest(
        commands.add_parser("manifest", help="inspect an artifact and write the manifest beside it")
    )


def run(arguments: argparse.Namespace) -> int:
    """Run one of them and return its exit code.

    Raises:
        ArtifactError, OSError: it failed.
    """
    with prints_to_stderr(wanted=arguments.json):
        from service import runtime
        from service.scaffold.command import describe

    describe(arguments, runtime)
    return 0
