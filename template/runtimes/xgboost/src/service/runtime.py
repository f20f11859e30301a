"""XGBoost: a booster in a ``.ubj`` or ``.json`` file.

A classifier returns the probability of every class, also if there are only two. Any other booster
returns its prediction. If training stopped early, the best iteration predicts. XGBoost computes in
FP32: it cannot tell ids over 16,777,216 apart, in training neither.

The library is imported where it is used, so that importing this module stays cheap.
"""

import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core.manifest import ArtifactError, Manifest, check_numbers
from service.core.tensors import Array, Signature, Tensors, TensorSpec, convert_output

if TYPE_CHECKING:
    from xgboost import Booster

RUNTIME: Final = "xgboost"


class Model:
    """A booster on its device."""

    def __init__(self, booster: "Booster", manifest: Manifest) -> None:
        best = booster.attr("best_iteration")
        self.signature = _signature(booster)
        self._booster = booster
        self._iterations = (0, int(best) + 1 if best else 0)
        self._linear = _learner(booster)["gradient_booster"]["name"] == "gblinear"
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input; a missing feature is NaN."""
        values = self._predict(batch[self._input])
        if values.ndim < len(self._output.shape):
            values = np.column_stack((1 - values, values))
        return {self._output.name: convert_output(self._output, values)}

    def _predict(self, rows: Array) -> Array:
        if self._linear:
            from xgboost import DMatrix

            return self._booster.predict(DMatrix(rows), validate_features=False)
        values: Array = self._booster.inplace_predict(rows, iteration_range=self._iterations)
        return values


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load a booster onto a device: ``cpu``, ``cuda``, ``cuda:1`` and so on.

    Raises:
        ArtifactError: the file is not a booster, or the device is not available.
    """
    # Threads that spin between batches would take CPU time from the event loop.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    check_numbers(manifest, "XGBoost")
    booster = _read(artifact)
    booster.set_param({"nthread": threads})
    if device != "cpu":
        _move(booster, device)
    return Model(booster, manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read the number of features and of classes from the booster.

    Raises:
        ArtifactError: the file is not a booster.
    """
    return _signature(_read(artifact))


def _read(artifact: Path) -> "Booster":
    """Read a booster. XGBoost itself may end the process if the file is cut off."""
    from xgboost import Booster
    from xgboost.core import XGBoostError

    try:
        content = bytearray(artifact.read_bytes().strip())
        if not (content.startswith(b"{") and content.endswith(b"}")):
            raise ArtifactError(f"{artifact} is not an XGBoost model, or is cut off")
        return Booster(model_file=content)
    except (XGBoostError, OSError, ValueError) as error:
        raise ArtifactError(f"{artifact} cannot be loaded: {_cause(error)}") from error


def _learner(booster: "Booster") -> Any:
    return json.loads(booster.save_config())["learner"]


def _signature(booster: "Booster") -> Signature:
    features = TensorSpec("features", "FP32", (-1, booster.num_features()))
    return Signature((features,), (_output(booster),), converts=True)


def _output(booster: "Booster") -> TensorSpec:
    learner = _learner(booster)
    objective = learner["objective"]["name"]
    sizes = learner["learner_model_param"]
    targets = int(sizes["num_target"])
    if objective == "multi:softprob":
        return TensorSpec("probabilities", "FP32", (-1, int(sizes["num_class"])))
    if objective == "binary:logistic":
        return TensorSpec("probabilities", "FP32", (-1, max(targets, 2)))
    return TensorSpec("prediction", "FP32", (-1, targets) if targets > 1 else (-1,))


def _move(booster: "Booster", device: str) -> None:
    """Move a booster to a device. XGBoost only warns if it stays on the CPU instead."""
    from xgboost.core import XGBoostError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            booster.set_param({"device": device})
            booster.inplace_predict(np.zeros((1, booster.num_features()), np.float32))
    except XGBoostError as error:
        cause = _cause(error).removesuffix(" Expected to be one of the following:")
        raise ArtifactError(f"the device '{device}' is not available: {cause}") from error
    if not _learner(booster)["generic_param"]["device"].startswith("cuda"):
        raise ArtifactError(f"the device '{device}' is not available, this xgboost has: cpu")


def _cause(error: Exception) -> str:
    """Return the message without time, source line and stack trace of XGBoost."""
    return re.sub(r"^\[[\d:]+\] \S+: ", "", str(error).partition("\n")[0])
