"""scikit-learn: an estimator or a pipeline in a ``.skops`` file.

Skops creates objects only of types that it knows to be safe, and of those that the manifest's
parameter ``trusted`` lists. The input is passed to ``predict_proba`` if the estimator has it, else
to ``predict``, or to the method that the parameter ``method`` names.

Libraries are imported where they are used, so that importing this module stays cheap.
"""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Array, Signature, Tensors, TensorSpec, datatype_of

RUNTIME: Final = "scikit-learn"

_METHODS: Final = ("predict_proba", "predict", "decision_function", "transform")


class Model:
    """An estimator, and the method of it that is served."""

    def __init__(
        self, estimator: Any, method: str, signature: Signature, manifest: Manifest
    ) -> None:
        self.signature = signature
        self._call = getattr(estimator, method)
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input."""
        values = np.asarray(self._call(batch[self._input]))
        if self._output.datatype == "BYTES":
            return {self._output.name: _encode(values)}
        return {self._output.name: values.astype(self._output.dtype, copy=False)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load an estimator. Its OpenMP threads are limited in the calling thread only.

    ``device``: ``cpu``, the only one that scikit-learn has.

    Raises:
        ArtifactError: the file is not an estimator, has types that are not trusted, or the device
            is not the CPU.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, scikit-learn has: cpu")
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    estimator = _read(artifact, manifest.parameters)
    method = _method(estimator, manifest.parameters)
    _limit(threads)
    return Model(estimator, method, _signature(estimator, method, manifest), manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Count the features, and predict a row of zeros.

    Raises:
        ArtifactError: the file is not an estimator, has types that are not trusted, or the
            estimator takes something else than rows of numbers.
    """
    estimator = _read(artifact, parameters)
    method = _method(estimator, parameters)
    try:
        features = int(estimator.n_features_in_)
        values = np.asarray(getattr(estimator, method)(np.zeros((1, features), np.float32)))
        datatype = "BYTES" if values.dtype.kind in "OU" else datatype_of(values.dtype)
    except Exception as error:
        raise ArtifactError(
            "the estimator does not describe its tensors: do it with --input and --output "
            f"({_one_line(error)})"
        ) from error
    if method == "predict_proba":
        output = TensorSpec("probabilities", "FP32", (-1, *values.shape[1:]))
    else:
        output = TensorSpec("prediction", datatype, (-1, *values.shape[1:]))
    return Signature((TensorSpec("features", "FP32", (-1, features)),), (output,), converts=True)


def _read(artifact: Path, parameters: dict[str, Any]) -> Any:
    from skops.io import get_untrusted_types, load

    trusted = parameters.get("trusted", [])
    try:
        untrusted = sorted(set(get_untrusted_types(file=artifact)) - set(trusted))
        if not untrusted:
            return load(artifact, trusted=trusted)
    except Exception as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_one_line(error)}") from error
    types = ", ".join(f'"{name}"' for name in untrusted)
    raise ArtifactError(
        f"{artifact} has types that the manifest does not trust; when you know where they come "
        f"from, make the manifest with --parameter 'trusted=[{types}]'"
    )


def _method(estimator: Any, parameters: dict[str, Any]) -> str:
    default = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    method = str(parameters.get("method", default))
    if method not in _METHODS or not hasattr(estimator, method):
        there = ", ".join(name for name in _METHODS if hasattr(estimator, name))
        raise ArtifactError(f"the estimator cannot be served by '{method}', it has: {there}")
    return method


def _signature(estimator: Any, method: str, manifest: Manifest) -> Signature:
    """Return what an estimator knows without predicting: its features, and often its classes."""
    features = getattr(estimator, "n_features_in_", None)
    inputs = () if features is None else (TensorSpec("features", "FP32", (-1, features)),)
    if method == "predict_proba":
        shape = (-1, len(estimator.classes_))
        return Signature(inputs, (TensorSpec("probabilities", "FP32", shape),), converts=True)
    if len(manifest.outputs) != 1:
        raise ArtifactError("an estimator has one output, the manifest has more")
    return Signature(inputs, manifest.output_specs(), converts=True)


def _limit(threads: int) -> None:
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    # An estimator's own n_jobs costs milliseconds a call, more than it brings to a batch.
    parallel_config(backend="sequential")


def _encode(values: Array) -> Array:
    encoded = [str(value).encode() for value in values.flat]
    return np.array(encoded, dtype=object).reshape(values.shape)


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
