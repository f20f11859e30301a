"""Looks into an artifact and runs it, for its manifest."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from service.core import artifact_kinds, cpu, examples, manifest, trial
from service.core.examples import Examples
from service.core.load import load
from service.core.manifest import ArtifactError, Manifest
from service.core.run import Run, checked
from service.core.tensors import Signature, TensorSpec
from service.core.trial import Verdict
from service.scaffold import mlflow
from service.scaffold.tensors import check_renamed, choose

if TYPE_CHECKING:
    from service.interfaces import Runtime


@dataclass(frozen=True, slots=True)
class Examined:
    """An artifact that was looked into and run.

    ``found``: what it says of itself. ``described``: its manifest, which is not written yet.
    ``candidates``: inputs that ``run`` may take.
    """

    artifact: Path
    found: Signature
    described: Manifest
    run: Run
    candidates: list[Examples]
    verdict: Verdict


def examine(arguments: argparse.Namespace, runtime: "Runtime") -> Examined:
    """Look into the artifact that the arguments name, and run it.

    Raises:
        ArtifactError: it cannot be served, or not as the arguments say.
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
    # A machine without the device of the service can describe an artifact, too.
    model = load(runtime, artifact, described, threads=cpu.threads_per_worker(1), device="cpu")
    run = checked(model, described.output_specs())
    inputs = described.input_specs()
    candidates = [
        *examples.read(artifact.parent, inputs),
        *examples.made_up(inputs, model.signature.features),
    ]
    verdict = trial.try_out(run, described, candidates)
    return Examined(artifact, found, described, run, candidates, verdict)


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
