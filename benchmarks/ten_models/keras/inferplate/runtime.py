"""A network of Keras that takes rows of numbers."""

from pathlib import Path
from typing import Any, Final

import keras

from service.core.manifest import Manifest
from service.core.tensors import Signature, Tensors, TensorSpec

RUNTIME: Final = "python"


class Model:
    def __init__(self, artifact: Path) -> None:
        self.network = keras.saving.load_model(artifact)
        self.signature = Signature(
            (TensorSpec("houses", "FP32", (-1, self.network.input_shape[1])),),
            (TensorSpec("price", "FP32", (-1, 1)),),
        )

    def run(self, batch: Tensors) -> Tensors:
        return {"price": self.network.predict_on_batch(batch["houses"])}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    return Model(artifact)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    return Model(artifact).signature
