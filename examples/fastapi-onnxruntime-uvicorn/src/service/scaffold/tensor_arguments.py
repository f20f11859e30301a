"""The arguments of ``python -m service manifest`` that describe tensors and how they are run."""

import argparse
import json
import re
from typing import Any

from service.core.tensors import TensorSpec


def add_tensor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the owner may say about tensors, batches and the runtime."""
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
