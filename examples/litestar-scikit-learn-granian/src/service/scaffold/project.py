"""Writes the owner's first files, and never over one that the owner has edited."""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from service.core.manifest import ArtifactError

PREDICT: Final = "src/service/predict.py"
GOLDEN: Final = "tests/golden.json"
TESTS: Final = "tests/test_model.py"
_TOLERANCE: Final = re.compile(r"^TOLERANCE: Final = .*$", re.MULTILINE)
_OWN_TOLERANCE: Final = "TOLERANCE: Final = 1e-4"


def find(artifact: Path) -> Path:
    """Return the folder of the project, whose ``models`` folder holds the artifact.

    Raises:
        ArtifactError: the service does not run from a project, or the artifact is elsewhere.
    """
    source = Path(__file__).parents[2]
    project = source.parent
    if source.name != "src" or not (project / "tests").is_dir():
        raise ArtifactError("predict.py can be written in a project only, beside src/ and tests/")
    if artifact.parent.resolve() != (project / "models").resolve():
        raise ArtifactError(
            f"put the artifact into {project / 'models'} first: the tests and the image of the "
            "service take it from there"
        )
    return project


def is_seed(project: Path, name: str) -> bool:
    """Return whether a file is as the template emitted it, or not there."""
    path = project / name
    if not path.exists():
        return True
    content = path.read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest() in _seeds()[name]


def write(project: Path, files: Mapping[str, str], *, force: bool) -> list[str]:
    """Write files, and what tests allow numbers to be off by; return what there is to say of it.

    If one of the files was edited, all are written beside the old ones instead.
    """
    edited = [
        name
        for name, text in files.items()
        if not is_seed(project, name) and _read(project / name) != text
    ]
    if edited and not force:
        for name, text in files.items():
            _write(project / f"{name}.new", text)
        beside = ", ".join(f"{name}.new" for name in files)
        return [f"wrote {beside}: {edited[0]} is edited, and stays (--force writes over it)"]
    for name, text in files.items():
        _write(project / name, text)
    said = [f"wrote {', '.join(files)}"]
    tests = project / TESTS
    if tests.exists() and is_seed(project, TESTS):
        _write(tests, _TOLERANCE.sub(_OWN_TOLERANCE, _read(tests)))
        said[0] += f", and the tolerance in {TESTS}"
    elif tests.exists() and _OWN_TOLERANCE not in _read(tests):
        said.append(f"{TESTS} is edited, and stays: let it compare with {GOLDEN}")
    return said


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _seeds() -> dict[str, list[str]]:
    """Return the sha256 of each text that a version of the template emitted, for any answers."""
    text = resources.files("service.scaffold").joinpath("seeds.json").read_text(encoding="utf-8")
    seeds: dict[str, list[str]] = json.loads(text)
    return seeds
