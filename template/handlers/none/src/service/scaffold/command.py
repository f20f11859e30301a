"""``python -m service manifest``: looks into an artifact, runs it, and writes its manifest."""

import argparse
import shlex
from typing import TYPE_CHECKING

from service.scaffold.examine import examine
from service.scaffold.report import Report, prints_to_stderr

if TYPE_CHECKING:
    from service.interfaces import Runtime


def describe(arguments: argparse.Namespace, runtime: "Runtime") -> None:
    """Write the manifest of an artifact, and say what is in it.

    Raises:
        ArtifactError: the artifact cannot be served, or not as the arguments say.
    """
    with prints_to_stderr(wanted=arguments.json):
        examined = examine(arguments, runtime)
    path = examined.described.write(examined.artifact.parent)
    folder = shlex.quote(str(examined.artifact.parent))
    serve = f"SERVICE_MODEL_DIR={folder} python -m service"
    Report(path, examined.described, examined.verdict, [], serve).show(as_json=arguments.json)
