"""Chooses the tensors of a manifest: those of the artifact, and what the owner says about them."""

from collections.abc import Mapping, Sequence

from service.core.manifest import ArtifactError
from service.core.tensors import Signature, TensorSpec


def choose(
    found: Signature, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec | str]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs to serve.

    ``inputs``: descriptions that come before those of the artifact. ``outputs``: likewise, or only
    names; if there are any, other outputs are left out.

    Raises:
        ArtifactError: a tensor is not described, or an output that is named is not there.
    """
    chosen_inputs = _described(found, inputs)
    names = [output if isinstance(output, str) else output.name for output in outputs]
    for tensor in found.undescribed:
        by_owner = [spec.name for spec in inputs] if tensor.kind == "input" else names
        if tensor.name in by_owner or (tensor.kind == "output" and names):
            continue
        advice = (
            f"describe it with --{tensor.kind} {tensor.name}:DATATYPE:SHAPE (SHAPE is empty for a "
            "scalar)"
        )
        if tensor.kind == "output":
            there = next((spec.name for spec in found.outputs if spec.shape), "NAME")
            advice = f"name the outputs to serve, such as --output {there}, or {advice}"
        raise ArtifactError(f"the {tensor.kind} '{tensor.name}' is {tensor.description}: {advice}")
    by_name = {spec.name: spec for spec in found.outputs}
    chosen_outputs = []
    for output in outputs:
        if isinstance(output, TensorSpec):
            chosen_outputs.append(output)
        elif output in by_name:
            chosen_outputs.append(by_name[output])
        else:
            there = ", ".join(by_name) or "none"
            raise ArtifactError(
                f"the artifact describes no output '{output}': give it as NAME:DATATYPE:SHAPE, or "
                f"choose from those that it does describe: {there}"
            )
    return chosen_inputs, tuple(chosen_outputs) or found.outputs


def check_renamed(
    renamed: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Check that tensors to rename are there.

    Raises:
        ArtifactError: one is not.
    """
    names = [spec.name for spec in (*inputs, *outputs)]
    for name in renamed:
        if name not in names:
            raise ArtifactError(f"the model has no tensor '{name}' to rename, it has: {names}")


def _described(found: Signature, given: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the inputs; those with names are described one by one, others together."""
    if not found.named:
        return tuple(given) or found.inputs
    by_name = {spec.name: spec for spec in (*found.inputs, *given)}
    return tuple(by_name.values())
