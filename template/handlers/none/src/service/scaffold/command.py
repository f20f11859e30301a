"""``python -m service manifest``: looks into an artifact, runs it, and writes its manifest."""

import argparse
import shlex
from typing import TYPE_CHECKING

from service.scaffold.examine import examine, write

if TYPE_CHECKING:
    from service.interfaces import Runtime


def describe(arguments: argparse.Namespace, runtime: "Runtime") -> None:
    """Write the manifest of an artifact, and say what is in it.

    Raises:
        ArtifactError: the artifact cannot be served, or not as the arguments say.
    """
    examined = examine(arguments, runtime)
    write(examined)
    folder = shlex.quote(str(examined.artifact.parent))
    print(f"Serve it: SERVICE_MODEL_DIR={folder} python -m service")
