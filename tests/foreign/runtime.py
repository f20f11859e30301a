"""A model that adds the numbers of each row, for schemas of every kind."""

from pathlib import Path
from typing import Any, Final

from service.core.manifest import Manifest
from service.core.tensors import Signature, Tensors, TensorSpec

RUNTIME: Final = "python"
SIGNATURE: Final = Signature(
    (TensorSpec("features", "FP32", (-1, -1)),), (TensorSpec("total", "FP32", (-1,)),)
)


class Model:
    signature = SIGNATURE

    def run(self, batch: Tensors) -> Tensors:
        return {"total": batch["features"].sum(axis=1)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    return Model()


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    return SIGNATURE
