"""Finds the artifact in the folder of an MLflow model.

Its file ``MLmodel`` is YAML. Only the lines that are read here are parsed, as MLflow writes them.
"""

import re
from pathlib import Path
from typing import Final

from service.core.manifest import ArtifactError

FILE_NAME: Final = "MLmodel"

_DATA: Final = re.compile(r"^    (?:data|model_data|pickled_model|data_path): (.+)$", re.MULTILINE)


def artifact_in(folder: Path) -> Path:
    """Return the artifact of a folder; the folder itself, if it is not one of MLflow.

    Raises:
        ArtifactError: the folder does not name a file that is there.
    """
    if not (folder / FILE_NAME).is_file():
        return folder
    named: list[str] = _DATA.findall((folder / FILE_NAME).read_text(encoding="utf-8"))
    files = [folder / name.strip("'\"") for name in named]
    for file in files:
        if file.is_file():
            return file
    raise ArtifactError(f"{folder / FILE_NAME} names no artifact in its folder: give the file")
