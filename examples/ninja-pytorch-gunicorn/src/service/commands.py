"""The commands beside serving: describe an artifact, score a file.

The runtime is imported only where it is used: the main process must not hold its threads when it
forks its workers.
"""

import argparse
from typing import Any

from service.ops.settings import load_settings
from service.scaffold.arguments import add_arguments as add_manifest
from service.scaffold.report import prints_to_stderr
from service.scoring.arguments import add_arguments as add_score


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the commands to the command line."""
    add_manifest(
        commands.add_parser("manifest", help="inspect an artifact and write the manifest beside it")
    )
    add_score(commands.add_parser("score", help="write a prediction for each row of a file"))


def run(arguments: argparse.Namespace) -> int:
    """Run one of them and return its exit code.

    Raises:
        SettingsInvalid, ArtifactError, CannotStart, OSError: it failed.
    """
    if arguments.command == "score":
        from service import predict, runtime
        from service.scoring.command import score

        return score(arguments, load_settings(), predict, runtime)
    with prints_to_stderr(wanted=arguments.json):
        from service import runtime
        from service.scaffold.command import describe

    describe(arguments, runtime)
    return 0
