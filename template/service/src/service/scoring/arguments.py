"""The arguments of ``python -m service score``."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = (
        "Write a prediction for each row of a file, as /predict would answer it. A run that was "
        "interrupted goes on when the same command is given again."
    )
    parser.epilog = (
        "Exit codes: 0 every row has a prediction, 3 done, but rows were refused (see "
        "OUT.refused.jsonl), 1 not done, 2 wrong usage."
    )
    parser.add_argument(
        "input", metavar="IN", help=".jsonl, .csv or .parquet; - for JSON lines from standard input"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help=".jsonl, .csv or .parquet")
    parser.add_argument(
        "--id",
        metavar="NAME",
        help="a column of IN that OUT repeats beside the number of the row; the model gets it only "
        "if it is a field of Instance",
    )
    parser.add_argument(
        "--drop",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,NAME,…",
        help="columns of IN that are no fields of Instance, to be left out",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew, and replace OUT if it exists"
    )
