"""XGBoost: a booster in a ``.ubj`` or ``.json`` file.

The input is one matrix, or, with the parameter ``frame``, a tensor for each column. Categories,
which a booster that was trained on a DataFrame knows, become their codes; the booster gets the
matrix that it would make of the DataFrame itself.

A classifier returns the probability of every class, also if there are only two. Any other booster
returns its prediction. If training stopped early, the best iteration predicts. XGBoost computes in
FP32: it cannot tell ids over 16,777,216 apart, in training neither.

The library is imported where it is used, so that importing this module stays cheap.
"""

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core import tables
from service.core.manifest import ArtifactError, Manifest, check_numbers
from service.core.tensors import (
    Array,
    Feature,
    Signature,
    Tensors,
    TensorSpec,
    convert_output,
)

if TYPE_CHECKING:
    from xgboost import Booster

RUNTIME: Final = "xgboost"


class Model:
    """A booster on its device."""

    def __init__(self, booster: "Booster", manifest: Manifest) -> None:
        best = booster.attr("best_iteration")
        self._frame = tables.wants_frame(manifest)
        self._features = _features(booster, framed=self._frame)
        self._has_categories = any(feature.categories for feature in self._features)
        output = replace(_output(booster), name=manifest.outputs[0].name)
        self.signature = _signature(booster, self._features, output, framed=self._frame)
        if self._frame:
            tables.check_columns(manifest, self._features)
        self._booster = booster
        self._iterations = (0, int(best) + 1 if best else 0)
        self._linear = _learner(booster)["gradient_booster"]["name"] == "gblinear"
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input; a missing feature is NaN.

        Raises:
            Refused: a value is not among the categories of its column.
        """
        if self._frame:
            rows = tables.numbers(self._features, batch, np.float32)
        else:
            rows = batch[self._input]
            if self._has_categories:
                tables.check_codes(self._features, rows)
        values = self._predict(rows)
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
    if not tables.wants_frame(manifest):
        check_numbers(manifest, "XGBoost")
    booster = _read(artifact)
    booster.set_param({"nthread": threads})
    if device != "cpu":
        _move(booster, device)
    return Model(booster, manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read columns, categories and classes from the booster.

    Raises:
        ArtifactError: the file is not a booster, or has columns of categories that it does not
            name.
    """
    booster = _read(artifact)
    framed = tables.frame_parameter(parameters)
    if framed is None:
        framed = any(kind == "c" for _, kind in _columns(booster))
    return _signature(booster, _features(booster, framed=framed), _output(booster), framed=framed)


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


def _signature(
    booster: "Booster", features: tuple[Feature, ...], output: TensorSpec, *, framed: bool
) -> Signature:
    matrix = TensorSpec("features", "FP32", (-1, booster.num_features()))
    single = output.shape[1:2] and _learner(booster)["learner_model_param"]["num_target"] == "1"
    is_classifier = single and _output(booster).name == "probabilities"
    return Signature(
        tables.column_specs(features) if framed else (matrix,),
        (output,),
        named=framed,
        converts=True,
        features=features,
        classes=tuple(range(output.shape[1])) if is_classifier else (),
        parameters={"frame": True} if framed else {},
    )


def _features(booster: "Booster", *, framed: bool) -> tuple[Feature, ...]:
    """Return the columns, those of a matrix with the codes of their categories.

    Raises:
        ArtifactError: a column has categories that the booster does not name, so that there is no
            column of a DataFrame.
    """
    categories = _categories(booster)
    if framed and (nameless := _nameless(booster, categories)):
        raise ArtifactError(_no_names(nameless))
    features = []
    for index, (name, kind) in enumerate(_columns(booster)):
        known = categories[index]
        datatype = "FP32"
        if framed and known:
            datatype = "BYTES" if isinstance(known[0], str) else "FP64"
        elif framed and kind == "i":
            datatype = "BOOL"
        features.append(
            Feature(
                name,
                datatype,
                known if framed else tuple(range(len(known))),
                optional=datatype != "BOOL",
            )
        )
    return tuple(features)


def _columns(booster: "Booster") -> list[tuple[str, str]]:
    """Return the name and XGBoost's type of each column: ``c`` for categories, ``i`` for bool."""
    count = booster.num_features()
    names = booster.feature_names or [f"f{index}" for index in range(count)]
    kinds = booster.feature_types or [""] * count
    return list(zip(names, kinds, strict=True))


def _nameless(booster: "Booster", categories: Sequence[tuple[Any, ...]]) -> str:
    """Return the first column whose categories the booster does not name, if there is one."""
    for (name, kind), known in zip(_columns(booster), categories, strict=True):
        if kind == "c" and not known:
            return name
    return ""


def _no_names(column: str) -> str:
    return (
        f"the column '{column}' has categories that the booster does not name: train it on a "
        "DataFrame with XGBoost 3.1 or newer and categories in ASCII, or send their codes, with "
        "--parameter frame=false"
    )


def _categories(booster: "Booster") -> list[tuple[Any, ...]]:
    """Return the categories of each column, in the order of their codes; most have none."""
    columns = _columns(booster)
    if all(kind != "c" for _, kind in columns):
        return [()] * len(columns)
    trees = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    model = trees.get("gbtree", trees)["model"]
    found = model.get("cats", {}).get("enc") or [{}] * len(columns)
    return [_known(column) for column in found]


def _known(column: dict[str, Any]) -> tuple[Any, ...]:
    """Return the categories of a column: numbers, or texts that stand one behind the other.

    XGBoost 3.2 counts characters where it cuts bytes, so that texts beyond ASCII are damaged: they
    are left out.
    """
    values = column.get("values", [])
    if "offsets" not in column:
        return tuple(values)
    if any(value < 0 or value > 127 for value in values):
        return ()
    text = bytes(values).decode()
    return tuple(text[start:stop] for start, stop in pairwise(column["offsets"]))


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
