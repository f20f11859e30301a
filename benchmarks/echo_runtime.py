"""A runtime whose model gives back what it gets, of any length, in place of the service's own."""

from pathlib import Path
from typing import Any, Final

from service.core.manifest import Manifest
from service.core.tensors import Signature, Tensors

RUNTIME: Final = "python"


class Model:
    """Gives the first of its inputs back as each of its outputs."""

    signature: Final = Signature((), ())

    def __init__(self, manifest: Manifest) -> None:
        self._outputs = [spec.name for spec in manifest.outputs]

    def run(self, batch: Tensors) -> Tensors:
        (values,) = batch.values()
        return {name: values.copy() for name in self._outputs}


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    return Model.signature


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    return Model(manifest)
