"""``python -m service manifest``: looks into an artifact, runs it, and writes its manifest."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Feature
from service.scaffold import mlflow_columns, project
from service.scaffold.examine import Examined, examine
from service.scaffold.first_predict import write_first_predict
from service.scaffold.plan import named_columns
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
        said = []
        if _wants_predict(arguments, examined.artifact):
            said = _write_predict(arguments, examined)
    path = examined.described.write(examined.artifact.parent)
    endpoint = "" if said else "SERVICE_PREDICT_ENDPOINT=false "
    folder = shlex.quote(str(examined.artifact.parent))
    serve = f"SERVICE_MODEL_DIR={folder} {endpoint}python -m service"
    Report(path, examined.described, examined.verdict, said, serve).show(as_json=arguments.json)


def _write_predict(arguments: argparse.Namespace, examined: Examined) -> list[str]:
    return write_first_predict(
        project.find(examined.artifact),
        examined.described,
        examined.run,
        examined.candidates,
        columns=_columns(arguments, examined),
        classes=examined.found.classes,
        json_outputs=_names(examined.described, examined.found.json_outputs),
        batched=examined.verdict.batched,
        force=arguments.force,
    )


def _wants_predict(arguments: argparse.Namespace, artifact: Path) -> bool:
    """Return whether to write predict.py; ask at a terminal, if nothing of the owner is there."""
    if arguments.write_predict or arguments.columns or arguments.force:
        return True
    if arguments.json or not sys.stdin.isatty():
        return False
    try:
        folder = project.find(artifact)
    except ArtifactError:
        return False
    if not project.is_seed(folder, project.PREDICT):
        return False
    answer = input(f"Write a first {project.PREDICT} for it, and {project.GOLDEN}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _names(described: Manifest, in_artifact: Sequence[str]) -> list[str]:
    """Return the names in the manifest of outputs of the artifact."""
    outputs = described.outputs
    return [tensor.name for tensor in outputs if tensor.name_in_artifact in in_artifact]


def _columns(arguments: argparse.Namespace, examined: Examined) -> tuple[Feature, ...]:
    """Return the columns of the model: as the owner names them, the artifact, or MLflow."""
    features = examined.found.features or mlflow_columns.read(examined.artifact)
    if arguments.columns:
        return named_columns(examined.described, features, arguments.columns)
    return features
