"""Writes the services of this folder anew, or compares them with what the template emits.

    python examples/render.py
    python examples/render.py --check
"""

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inferplate_tools.verify.hygiene import tree
from inferplate.template.render import render
from inferplate.template.source import PUBLIC_ADDRESS, template_root

FOLDER: Final = Path(__file__).parent
AXES: Final = ("framework", "runtime", "server")
COMMON: Final = {
    "_src_path": PUBLIC_ADDRESS,
    "licence": "MIT",
    "author": "The inferplate authors",
}
EXAMPLES: Final = {
    "fastapi-onnxruntime-uvicorn": {"project_name": "Iris on FastAPI"},
    "litestar-scikit-learn-granian": {"project_name": "Iris on Litestar", "ci": "gitlab"},
    "ninja-pytorch-gunicorn": {"project_name": "Iris on Django Ninja"},
}
"""By name: the framework, the runtime and the server; and other answers than the defaults."""
MEND: Final = "run 'make examples' and commit what it writes"


def emit(name: str, destination: Path) -> Path:
    """Render an example into a folder."""
    framework, *middle, server = name.split("-")
    chosen = dict(zip(AXES, (framework, "-".join(middle), server), strict=True))
    return render(template_root(), destination, {**COMMON, **chosen, **EXAMPLES[name]})


def write() -> None:
    """Replace the examples. What git ignores in them, such as a trained model's files, goes too."""
    for path in FOLDER.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    for name in EXAMPLES:
        emit(name, FOLDER / name)


def differences() -> Iterator[str]:
    """Describe how the examples differ from a fresh render, a file at a time."""
    with tempfile.TemporaryDirectory() as temporary:
        for name in EXAMPLES:
            emit(name, Path(temporary, name))
        fresh = tree(Path(temporary))
    stored = {path: (FOLDER / path).read_bytes() for path in _stored()}
    for path in sorted(fresh.keys() | stored.keys()):
        if path not in fresh:
            yield f"{path} is not emitted\n"
        elif path not in stored:
            yield f"{path} is missing\n"
        elif fresh[path] != stored[path]:
            old, new = (
                files[path].decode("utf-8", "replace").splitlines(keepends=True)
                for files in (stored, fresh)
            )
            yield "".join(difflib.unified_diff(old, new, path, "fresh"))


def _stored() -> Iterator[str]:
    """List the files of the examples without those that git ignores, by their POSIX paths."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*/*"]
    listed = subprocess.run(command, cwd=FOLDER, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603
    for name in os.fsdecode(listed).split("\0"):
        if name and (FOLDER / name).exists():
            yield name


def main() -> None:
    """Write the examples; with ``--check`` compare them, and exit with 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args().check:
        write()
        return
    if found := list(differences()):
        sys.exit("".join([*found, f"\nThe examples are not what the template emits: {MEND}."]))


if __name__ == "__main__":
    main()
