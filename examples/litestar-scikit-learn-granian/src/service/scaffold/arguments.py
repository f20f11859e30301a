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
