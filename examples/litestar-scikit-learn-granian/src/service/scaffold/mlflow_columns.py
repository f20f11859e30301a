"""Reads the columns of a model from the signature in the folder of an MLflow model.

Its file ``MLmodel`` is YAML. Only the lines that are read here are parsed, as MLflow writes them.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from service.core.manifest import ArtifactError
from service.core.tensors import Feature
from service.scaffold.mlflow import FILE_NAME

_DATATYPES: Final = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_INPUTS: Final = re.compile(
    r"""^signature:\n(?:  .*\n)*?  inputs: '((?:[^']|'')*)'""", re.MULTILINE
)
_FOLD: Final = re.compile(r"(?<! )\n +")


def read(artifact: Path) -> tuple[Feature, ...]:
    """Return the columns that the signature beside an artifact names; none if there is none.

    Raises:
        ArtifactError: the signature cannot be read.
    """
    path = artifact.parent / FILE_NAME
    if not path.is_file():
        return ()
    match = _INPUTS.search(path.read_text(encoding="utf-8"))
    if match is None:
        return ()
    try:
        given: list[dict[str, Any]] = json.loads(_FOLD.sub(" ", match[1]).replace("''", "'"))
        return tuple(
            Feature(
                str(column["name"]),
                _DATATYPES[column["type"]],
                optional=not column.get("required", True),
            )
            for column in given
            if column["type"] != "tensor"
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: the signature cannot be read: {error!r}") from None
