"""scikit-learn: an estimator or a pipeline in a ``.skops`` file.

Skops makes objects of types that it knows to be safe and of those that the manifest's parameter
``trusted`` lists. The input goes into ``predict_proba`` where the estimator has it, else into
``predict``, or into the method that the parameter ``method`` names.

Libraries are imported where they are used: a process that only needs this module's names stays
small.
"""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.manifest import ArtifactError, Manifest
from service.tensors import Array, Tensors, TensorSpec, datatype_of

RUNTIME: Final = "scikit-learn"

_METHODS: Final = ("predict_proba", "predict", "decision_function", "transform")


class Model:
    """An estimator and the method of it that is served."""

    def __init__(self, estimator: Any, method: str, manifest: Manifest) -> None:
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
    """Load an estimator; its OpenMP threads are limited in the calling thread only.

    ``device``: ``cpu``, there is no other.

    Raises:
        ArtifactError: the file is no estimator or has types that are not trusted, its tensors are
            not the manifest's, or the device is another.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, scikit-learn has: cpu")
    # Threads that spin between batches would take the processor from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    estimator = _read(artifact, manifest.parameters)
    method = _method(estimator, manifest.parameters)
    _compare(estimator, method, manifest)
    _limit(threads)
    return Model(estimator, method, manifest)


def inspect(
    artifact: Path, parameters: dict[str, Any]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Count the features and predict a row of zeros.

    Raises:
        ArtifactError: the file is no estimator or has types that are not trusted, or the estimator
            takes something else than rows of numbers.
    """
    estimator = _read(artifact, parameters)
    method = _method(estimator, parameters)
    try:
        features = int(estimator.n_features_in_)
        values = np.asarray(getattr(estimator, method)(np.zeros((1, features), np.float32)))
        datatype = "BYTES" if values.dtype.kind in "OU" else datatype_of(values.dtype)
    except Exception as error:
        raise ArtifactError(
            "the estimator does not tell what it takes and gives: describe its tensors with "
            f"--input and --output ({_one_line(error)})"
        ) from error
    if method == "predict_proba":
        output = TensorSpec("probabilities", "FP32", (-1, *values.shape[1:]))
    else:
        output = TensorSpec("prediction", datatype, (-1, *values.shape[1:]))
    return (TensorSpec("features", "FP32", (-1, features)),), (output,)


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


def _compare(estimator: Any, method: str, manifest: Manifest) -> None:
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        raise ArtifactError("an estimator has one input and one output, the manifest has others")
    features = getattr(estimator, "n_features_in_", None)
    shape = manifest.inputs[0].shape
    if features is not None and shape[1:] != [features]:
        raise ArtifactError(f"the estimator takes [-1, {features}], the manifest says {shape}")
    shape = manifest.outputs[0].shape
    if method == "predict_proba" and shape[1:] != [len(estimator.classes_)]:
        raise ArtifactError(
            f"the estimator gives [-1, {len(estimator.classes_)}], the manifest says {shape}"
        )


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
