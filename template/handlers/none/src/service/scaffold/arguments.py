"""The arguments of ``python -m service manifest``."""

import argparse

from service.scaffold.tensor_arguments import add_tensor_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("file", metavar="FILE", help="the artifact, a file or a folder")
    parser.add_argument("--name", required=True, help="name of the model, part of its URL")
    parser.add_argument("--version", required=True, help="version of the model, part of its URL")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the outcome as one JSON object, and ask nothing",
    )
    add_tensor_arguments(parser)
