"""Loads a model whose tensors have the names that its manifest gives them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.core import artifact_kinds
from service.core.errors import InvalidTensors
from service.core.manifest import Manifest, check_signature
from service.core.tensors import Signature, Tensors

if TYPE_CHECKING:
    from service.interfaces import Model, Runtime


class Renamed:
    """A model whose tensors the manifest renames.

    ``names``: those in the artifact, by those in the manifest.
    """

    def __init__(
        self, model: "Model", inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._outputs = outputs

    @property
    def signature(self) -> Signature:
        """The signature with the names in the artifact, but with columns by the new names."""
        found = self._model.signature
        names = {in_artifact: name for name, in_artifact in self._inputs.items()}
        return replace(
            found,
            features=tuple(
                replace(feature, name=names.get(feature.name, feature.name))
                for feature in found.features
            ),
        )

    def run(self, batch: Tensors) -> Tensors:
        """Run the model on tensors by the names in the manifest."""
        try:
            results = self._model.run({self._inputs[name]: array for name, array in batch.items()})
        except InvalidTensors as error:
            detail = error.detail
            for name, in_artifact in self._inputs.items():
                detail = detail.replace(f"'{in_artifact}'", f"'{name}'")
            raise InvalidTensors(detail) from error
        return {name: results[in_artifact] for name, in_artifact in self._outputs.items()}


def load(
    runtime: "Runtime", artifact: Path, manifest: Manifest, *, threads: int, device: str
) -> "Model":
    """Load an artifact whose checksums match. Call it in the model's thread.

    Raises:
        ArtifactError: it cannot be loaded, does not fit its manifest, or is of another runtime; or
            the device is not available.
    """
    artifact_kinds.check(artifact, runtime.RUNTIME)
    in_artifact = manifest.with_names_of_artifact()
    model = runtime.load(artifact, in_artifact, threads=threads, device=device)
    check_signature(in_artifact, model.signature)
    if in_artifact is manifest:
        return model
    return Renamed(
        model,
        {tensor.name: tensor.name_in_artifact for tensor in manifest.inputs},
        {tensor.name: tensor.name_in_artifact for tensor in manifest.outputs},
    )
