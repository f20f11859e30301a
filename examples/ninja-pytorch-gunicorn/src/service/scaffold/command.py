"""``python -m service manifest``: looks into an artifact, runs it, and writes its manifest."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from service.core import artifact_kinds, cpu, examples, manifest, trial
from service.core.load import load
from service.core.manifest import ArtifactError, Manifest
from service.core.run import checked
from service.core.tensors import Feature, Signature, TensorSpec
from service.ops.settings import Settings
from service.scaffold import mlflow, project
from service.scaffold.first_predict import write_first_predict
from service.scaffold.plan import named_columns
from service.scaffold.tensors import check_renamed, choose

if TYPE_CHECKING:
    from service.interfaces import Runtime


def describe(arguments: argparse.Namespace, runtime: "Runtime") -> None:
    """Write the manifest of an artifact, and say what is in it.

    Raises:
        ArtifactError: the artifact cannot be served, or not as the arguments say.
    """
    artifact = Path(arguments.file)
    if not artifact.exists():
        raise ArtifactError(f"{artifact} does not exist")
    if artifact.is_dir():
        artifact = mlflow.artifact_in(artifact)
    if not artifact.is_dir():
        manifest.check_file(artifact)
    artifact_kinds.check(artifact, runtime.RUNTIME)
    found = _inspect(arguments, artifact, runtime)
    described = _describe(arguments, artifact, found, runtime)
    device = Settings.model_fields["device"].default
    model = load(runtime, artifact, described, threads=cpu.threads_per_worker(1), device=device)
    run = checked(model, described.output_specs())
    inputs = described.input_specs()
    candidates = [
        *examples.read(artifact.parent, inputs),
        *examples.made_up(inputs, model.signature.features),
    ]
    verdict = trial.try_out(run, described, candidates)
    said = []
    if _wants_predict(arguments, artifact):
        said = write_first_predict(
            project.find(artifact),
            described,
            run,
            candidates,
            columns=_columns(arguments, artifact, described, found),
            classes=found.classes,
            json_outputs=_names(described, found.json_outputs),
            batched=verdict.batched,
            force=arguments.force,
        )
    path = described.write(artifact.parent)
    print(f"{path}: {described.name} {described.version}")
    for kind, specs in (("input", described.inputs), ("output", described.outputs)):
        for spec in specs:
            print(f"  {kind} {spec.name} {spec.datatype} {spec.shape}")
    if verdict.batched:
        print("  requests may share a batch" + (f": {verdict.reason}" if verdict.reason else ""))
    else:
        print(f"  requests run one at a time: {verdict.reason}")
    for line in said:
        print(line)
    endpoint = "" if said else "SERVICE_PREDICT_ENDPOINT=false "
    folder = shlex.quote(str(artifact.parent))
    print(f"Serve it: SERVICE_MODEL_DIR={folder} {endpoint}python -m service")


def _wants_predict(arguments: argparse.Namespace, artifact: Path) -> bool:
    """Return whether to write predict.py; ask at a terminal, if nothing of the owner is there."""
    if arguments.write_predict or arguments.columns or arguments.force:
        return True
    if not sys.stdin.isatty():
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


def _columns(
    arguments: argparse.Namespace, artifact: Path, described: Manifest, found: Signature
) -> tuple[Feature, ...]:
    """Return the columns of the model: as the owner names them, the artifact, or MLflow."""
    features = found.features or mlflow.columns(artifact)
    if arguments.columns:
        return named_columns(described, features, arguments.columns)
    return features


def _inspect(arguments: argparse.Namespace, artifact: Path, runtime: "Runtime") -> Signature:
    """Look into an artifact. It need not describe itself if the arguments describe all of it."""
    given = [spec.name for spec in arguments.input]
    outputs = arguments.output
    complete = given and outputs and all(isinstance(output, TensorSpec) for output in outputs)
    try:
        found = runtime.inspect(artifact, dict(arguments.parameter))
    except ArtifactError:
        if complete:
            return Signature((), ())
        raise
    other_inputs = complete and not any(spec.name in given for spec in found.inputs)
    return Signature((), ()) if found.named and other_inputs else found


def _describe(
    arguments: argparse.Namespace, artifact: Path, found: Signature, runtime: "Runtime"
) -> Manifest:
    inputs, outputs = choose(found, arguments.input, arguments.output)
    renamed = dict(arguments.rename)
    check_renamed(renamed, inputs, outputs)
    try:
        return manifest.describe(
            artifact,
            name=arguments.name,
            version=arguments.version,
            runtime=runtime.RUNTIME,
            inputs=inputs,
            outputs=outputs,
            batch=arguments.batch,
            pad_batches=arguments.pad_batches,
            task=found.task,
            parameters={**found.parameters, **dict(arguments.parameter)},
            renamed=renamed,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["loc"][0] in ("name", "version") and len(problem["loc"]) == 1:
            raise ArtifactError(
                "--name and --version may have up to 128 letters, digits, dots, dashes and "
                "underscores"
            ) from None
        raise ArtifactError(problem["msg"].removeprefix("Value error, ")) from None
