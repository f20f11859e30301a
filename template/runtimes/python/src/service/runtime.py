"""Python: a model in code of your own.

This file is yours: an update of the template never touches it.

It begins with a linear classifier in NumPy, from an ``.npz`` file. To serve another library, load
its model in `load`, call it in `Model.run`, and describe its tensors in `inspect`.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Array, Signature, Tensors, TensorSpec

RUNTIME: Final = "python"


class Model:
    """A loaded model.

    ``signature``: the tensors, which are compared with the manifest; ``Signature((), ())`` if the
    artifact does not describe them. ``weights``: one row per feature, one column per class.
    ``bias``: one value per class.
    """

    def __init__(
        self, weights: Array, bias: Array, signature: Signature, manifest: Manifest
    ) -> None:
        self.signature = signature
        self._weights = weights
        self._bias = bias
        self._input = manifest.inputs[0].name
        self._output = manifest.outputs[0].name

    def run(self, batch: Tensors) -> Tensors:
        """Predict a batch: arrays by the manifest's names in and out, rows along the first axis.

        All calls come from one thread. What it raises fails only the rows that cause it. A BYTES
        tensor is an object array of ``bytes``: `decode_text` and `encode_text` of
        `service.core.tensors` convert it. `frame` of `service.core.tables` makes a pandas DataFrame
        of columns.
        """
        scores = batch[self._input] @ self._weights + self._bias
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return {self._output: exponents / exponents.sum(axis=1, keepdims=True)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load the model, in the thread that runs it.

    ``threads``: how many the model may use. ``device``: the setting ``SERVICE_DEVICE``.

    Raises:
        ArtifactError: the artifact cannot be read, or the device is not available. The service ends
            with this text, which must be one line.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, NumPy has: cpu")
    weights, bias = _read(artifact)
    threadpool_limits(limits=threads)
    return Model(weights, bias, _signature(weights), manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Describe an artifact, for ``python -m service manifest``.

    Raises:
        ArtifactError: the artifact cannot be read. If it does not describe its tensors, raise this
            too, and name the options ``--input`` and ``--output``.
    """
    weights, _ = _read(artifact)
    return _signature(weights)


def _signature(weights: Array) -> Signature:
    features, classes = weights.shape
    return Signature(
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
        raise ArtifactError(f"{artifact} must have two-dimensional float32 weights, and a bias")
    return weights, bias
