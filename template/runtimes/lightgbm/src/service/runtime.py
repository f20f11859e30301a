"""LightGBM: a booster in a ``.txt`` file.

A classifier returns the probability of every class, also if there are only two. Any other booster
returns its prediction.

The library is imported where it is used, so that importing this module stays cheap.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core.manifest import ArtifactError, Manifest, check_numbers
from service.core.tensors import Signature, Tensors, TensorSpec, convert_output

if TYPE_CHECKING:
    from lightgbm import Booster

RUNTIME: Final = "lightgbm"

_CLASSIFIERS: Final = ("binary", "multiclass", "multiclassova")


class Model:
    """A booster and the threads it predicts with."""

    def __init__(
        self, booster: "Booster", signature: Signature, manifest: Manifest, threads: int
    ) -> None:
        self.signature = signature
        self._booster = booster
        self._threads = threads
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input; a missing feature is NaN."""
        rows = batch[self._input]
        if rows.dtype != np.float32:  # LightGBM itself would round integers to FP32
            rows = rows.astype(np.float64, copy=False)
        values = np.asarray(self._booster.predict(rows, num_threads=self._threads))
        if values.ndim < len(self._output.shape):
            values = np.column_stack((1 - values, values))
        return {self._output.name: convert_output(self._output, values)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load a booster. ``device``: ``cpu``, the only one on which LightGBM predicts.

    Raises:
        ArtifactError: the file is not a booster, or the device is not the CPU.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, LightGBM has: cpu")
    check_numbers(manifest, "LightGBM")
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import lightgbm

    text = _read(artifact)
    lightgbm.register_logger(logging.getLogger("lightgbm"))
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        cause = str(error).partition("\n")[0]
        raise ArtifactError(f"{artifact} cannot be loaded: {cause}") from error
    return Model(booster, _signature(artifact, text), manifest, threads)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read the number of features and of classes from the booster, which computes in FP64.

    Raises:
        ArtifactError: the file is not a booster.
    """
    return _signature(artifact, _read(artifact))


def _read(artifact: Path) -> str:
    """Read the text of a booster. LightGBM itself would end the process if it is cut off."""
    try:
        text = artifact.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{artifact} cannot be read: {error}") from error
    if not text.startswith("tree\n") or "\nend of parameters\n" not in text:
        raise ArtifactError(f"{artifact} is not a LightGBM model in text form, or is cut off")
    return text


def _signature(artifact: Path, text: str) -> Signature:
    lines = text.partition("\n\n")[0].splitlines()
    header = {key: value for key, _, value in (line.partition("=") for line in lines)}
    try:
        features = int(header["max_feature_idx"]) + 1
        columns = int(header["num_tree_per_iteration"])
    except (KeyError, ValueError):
        raise ArtifactError(
            f"{artifact} does not give the number of its features and classes"
        ) from None
    objective = header.get("objective", "").partition(" ")[0]
    if objective in _CLASSIFIERS:
        output = TensorSpec("probabilities", "FP32", (-1, max(columns, 2)))
    else:
        output = TensorSpec("prediction", "FP64", (-1, columns) if columns > 1 else (-1,))
    return Signature((TensorSpec("features", "FP64", (-1, features)),), (output,), converts=True)
