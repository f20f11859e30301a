"""Python: a model in code of your own. This file is yours to write.

What is here serves a linear classifier from an ``.npz`` file by NumPy. To serve another library,
load its model in `load`, call it in `Model.run`, and tell its tensors in `inspect`, or let that
raise and describe them by options.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from service.manifest import ArtifactError, Manifest
from service.tensors import Array, Tensors, TensorSpec

RUNTIME: Final = "python"


class Model:
    """What the service keeps of a loaded model; it needs `run` and nothing else.

    ``weights``: one row per feature, one column per class. ``bias``: one value per class.
    """

    def __init__(self, weights: Array, bias: Array, manifest: Manifest) -> None:
        self._weights = weights
        self._bias = bias
        self._input = manifest.inputs[0].name
        self._output = manifest.outputs[0].name

    def run(self, batch: Tensors) -> Tensors:
        """Predict a batch: arrays by the manifest's names in and out, rows along the first axis.

        It is called from one thread, for one batch after the other. What it raises fails the rows
        that cause it, no others.
        """
        scores = batch[self._input] @ self._weights + self._bias
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return {self._output: exponents / exponents.sum(axis=1, keepdims=True)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load the model, in the thread that runs it.

    ``threads``: how many the model may use. ``device``: the setting ``SERVICE_DEVICE``.

    Raises:
        ArtifactError: the artifact cannot be read or is not what the manifest says, or the device
            is not available. Its text ends the service, in one line.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, NumPy has: cpu")
    weights, bias = _read(artifact)
    shapes = [tensor.shape for tensor in (*manifest.inputs, *manifest.outputs)]
    if shapes != [[-1, size] for size in weights.shape]:
        raise ArtifactError(f"the weights are {weights.shape}, the manifest's tensors {shapes}")
    threadpool_limits(limits=threads)
    return Model(weights, bias, manifest)


def inspect(
    artifact: Path, parameters: dict[str, Any]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Tell inputs and outputs of an artifact, for ``python -m service manifest``.

    Raises:
        ArtifactError: the artifact cannot be read, or does not tell: say which options are needed.
    """
    weights, _ = _read(artifact)
    features, classes = weights.shape
    return (
        (TensorSpec("features", "FP32", (-1, features)),),
        (TensorSpec("probabilities", "FP32", (-1, classes)),),
    )


def _read(artifact: Path) -> tuple[Array, Array]:
    try:
        with np.load(artifact, allow_pickle=False) as arrays:
            weights, bias = arrays["weights"], arrays["bias"]
    except Exception as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {error}") from error
    if weights.dtype != np.float32 or weights.ndim != 2 or bias.shape != weights.shape[1:]:
        raise ArtifactError(f"{artifact} needs weights in two dimensions, as float32, and a bias")
    return weights, bias
