"""scikit-learn: an estimator or a pipeline in a ``.skops`` file.

Skops creates objects only of types that it knows to be safe, and of those that the manifest's
parameter ``trusted`` lists. The input is passed to ``predict_proba`` if the estimator has it, else
to ``predict``, or to the method that the parameter ``method`` names. A BYTES input reaches it as
``str``.

Libraries are imported where they are used, so that importing this module stays cheap.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import (
    Array,
    Signature,
    Tensors,
    TensorSpec,
    convert_output,
    datatype_of,
    decode_text,
)

RUNTIME: Final = "scikit-learn"

_METHODS: Final = ("predict_proba", "predict", "decision_function", "transform")


class Model:
    """An estimator, and the method of it that is served."""

    def __init__(
        self, estimator: Any, method: str, signature: Signature, manifest: Manifest
    ) -> None:
        self.signature = signature
        self._call = getattr(estimator, method)
        self._input = manifest.input_specs()[0]
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input."""
        rows = batch[self._input.name]
        if self._input.datatype == "BYTES":
            rows = decode_text(self._input.name, rows)
        return {self._output.name: convert_output(self._output, np.asarray(self._call(rows)))}


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
    """Count the features, and predict a row of zeros, or of text if the estimator has learned text.

    Raises:
        ArtifactError: the file is not an estimator, has types that are not trusted, or the
            estimator takes something else than rows of numbers, rows of text, or texts.
    """
    estimator = _read(artifact, parameters)
    method = _method(estimator, parameters)
    try:
        features, row = _features(estimator)
        values = np.asarray(getattr(estimator, method)(row))
        datatype = "BYTES" if values.dtype.kind in "OSU" else datatype_of(values.dtype)
    except Exception as error:
        raise ArtifactError(
            "the estimator does not describe its tensors: do it with --input (BYTES for text) and "
            f"--output ({_one_line(error)})"
        ) from error
    if method == "predict_proba":
        output = TensorSpec("probabilities", "FP32", (-1, *values.shape[1:]))
    else:
        output = TensorSpec("prediction", datatype, (-1, *values.shape[1:]))
    return Signature((features,), (output,), converts=True)


def _features(estimator: Any) -> tuple[TensorSpec, Array]:
    """Return the input that an estimator takes, and a row to try it with."""
    count = getattr(estimator, "n_features_in_", None)
    if count is None:
        return TensorSpec("features", "BYTES", (-1,)), np.array(["text"], dtype=object)
    for part in _parts(estimator):
        categories = getattr(part, "categories_", ())
        if not any(isinstance(value, str) for column in categories for value in column):
            continue
        if len(categories) != count or not all(
            isinstance(value, str) for column in categories for value in column
        ):
            raise ValueError("some of its columns are text")
        row = np.array([[column[0] for column in categories]], dtype=object)
        return TensorSpec("features", "BYTES", (-1, count)), row
    return TensorSpec("features", "FP64", (-1, count)), np.zeros((1, count))


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and those that it is made of."""
    yield estimator
    held = list(vars(estimator).values()) if hasattr(estimator, "get_params") else []
    while held:
        value = held.pop()
        if isinstance(value, list | tuple):
            held.extend(value)
        elif hasattr(value, "get_params") and not isinstance(value, type):
            yield from _parts(value)


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
    for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        if len(tensors) != 1:
            raise ArtifactError(f"an estimator has one {kind}, the manifest has more")
    features = getattr(estimator, "n_features_in_", None)
    inputs = () if features is None else (TensorSpec("features", "FP64", (-1, features)),)
    if method == "predict_proba":
        shape = (-1, len(estimator.classes_))
        return Signature(inputs, (TensorSpec("probabilities", "FP32", shape),), converts=True)
    return Signature(inputs, manifest.output_specs(), converts=True)


def _limit(threads: int) -> None:
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    # An estimator's own n_jobs costs milliseconds a call, more than it brings to a batch.
    parallel_config(backend="sequential")


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
