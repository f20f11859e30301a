"""LightGBM: a booster in a ``.txt`` file.

The input is one matrix, or, with the parameter ``frame``, a tensor for each column. Categories,
which a booster that was trained on a DataFrame knows, become their codes; the booster gets the
matrix that it would make of the DataFrame itself. Categories that it does not know are refused,
which LightGBM would take for missing values.

A classifier returns the probability of every class, also if there are only two. Any other booster
returns its prediction.

The library is imported where it is used, so that importing this module stays cheap.
"""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.core import tables
from service.core.manifest import ArtifactError, Manifest, check_numbers
from service.core.tensors import Feature, Signature, Tensors, TensorSpec, convert_output

if TYPE_CHECKING:
    from lightgbm import Booster

RUNTIME: Final = "lightgbm"

_CLASSIFIERS: Final = ("binary", "multiclass", "multiclassova")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column. ``coded``: whether its values are codes of ``categories``, if they are known."""

    name: str
    coded: bool
    categories: tuple[Any, ...]
    minimum: float | None
    maximum: float | None

    def feature(self, *, framed: bool) -> Feature:
        """Return the column as a DataFrame or as a matrix has it."""
        known = self.categories if framed else tuple(range(len(self.categories)))
        is_text = framed and any(isinstance(value, str) for value in known)
        return Feature(
            self.name,
            "BYTES" if is_text else "FP64",
            known,
            optional=True,
            minimum=self.minimum,
            maximum=self.maximum,
        )


class Model:
    """A booster and the threads it predicts with."""

    def __init__(
        self, booster: "Booster", signature: Signature, manifest: Manifest, threads: int
    ) -> None:
        self.signature = signature
        self._frame = tables.wants_frame(manifest)
        self._features = signature.features
        self._has_categories = any(feature.categories for feature in signature.features)
        self._booster = booster
        self._threads = threads
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input; a missing feature is NaN.

        Raises:
            Refused: a value is not among the categories of its column.
        """
        if self._frame:
            rows = tables.numbers(self._features, batch, np.float64)
        else:
            rows = batch[self._input]
            if rows.dtype != np.float32:  # LightGBM itself would round integers to FP32
                rows = rows.astype(np.float64, copy=False)
            if self._has_categories:
                tables.check_codes(self._features, rows)
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
    framed = tables.wants_frame(manifest)
    if not framed:
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
    signature = _signature(artifact, text, framed=framed)
    output = replace(signature.outputs[0], name=manifest.outputs[0].name)
    if framed:
        tables.check_columns(manifest, signature.features)
    return Model(booster, replace(signature, outputs=(output,)), manifest, threads)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read columns, their ranges and categories from the booster, which computes in FP64.

    Raises:
        ArtifactError: the file is not a booster.
    """
    return _signature(artifact, _read(artifact), framed=tables.frame_parameter(parameters))


def _read(artifact: Path) -> str:
    """Read the text of a booster. LightGBM itself would end the process if it is cut off."""
    try:
        text = artifact.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{artifact} cannot be read: {error}") from error
    if not text.startswith("tree\n") or "\nend of parameters\n" not in text:
        raise ArtifactError(f"{artifact} is not a LightGBM model in text form, or is cut off")
    return text


def _signature(artifact: Path, text: str, *, framed: bool | None) -> Signature:
    """Describe a booster. ``framed``: with a tensor for each column; None: if it needs them.

    Raises:
        ArtifactError: it does not describe itself.
    """
    lines = text.partition("\n\n")[0].splitlines()
    header = {key: value for key, _, value in (line.partition("=") for line in lines)}
    try:
        count = int(header["max_feature_idx"]) + 1
        trees = int(header["num_tree_per_iteration"])
        columns = _columns(header, text)
        if len(columns) != count:
            raise ValueError
    except (KeyError, ValueError):
        raise ArtifactError(
            f"{artifact} does not give the number of its features and classes"
        ) from None
    if framed is None:
        framed = any(column.categories for column in columns)
    if framed:
        for column in columns:
            if column.coded and not column.categories:
                raise ArtifactError(
                    f"the booster does not name the categories of '{column.name}': send codes, "
                    "with --parameter frame=false, or train it on a DataFrame whose columns of "
                    "categories all have the dtype category"
                )
    features = tuple(column.feature(framed=framed) for column in columns)
    objective = header.get("objective", "").partition(" ")[0]
    if objective in _CLASSIFIERS:
        output = TensorSpec("probabilities", "FP32", (-1, max(trees, 2)))
    else:
        output = TensorSpec("prediction", "FP64", (-1, trees) if trees > 1 else (-1,))
    return Signature(
        tables.column_specs(features) if framed else (TensorSpec("features", "FP64", (-1, count)),),
        (output,),
        named=framed,
        converts=True,
        features=features,
        parameters={"frame": True} if framed else {},
    )


def _columns(header: dict[str, str], text: str) -> list[_Column]:
    """Read the columns. LightGBM gives a range of numbers as ``[0:1]``, codes as ``2:0:1``."""
    names, ranges = header["feature_names"].split(" "), header["feature_infos"].split(" ")
    parameter = _last(text, "[categorical_feature: ").rstrip("]")
    coded = {int(index) for index in parameter.split(",") if index.isdecimal()} | {
        index for index, found in enumerate(ranges) if ":" in found and not found.startswith("[")
    }
    known = json.loads(_last(text, "pandas_categorical:") or "null") or []
    categories = dict(zip(sorted(coded), known, strict=True)) if len(known) == len(coded) else {}
    columns = []
    for index, (name, found) in enumerate(zip(names, ranges, strict=True)):
        bounds = found.strip("[]").split(":") if found.startswith("[") else ()
        low, high = map(float, bounds) if bounds else (None, None)
        columns.append(_Column(name, index in coded, tuple(categories.get(index, ())), low, high))
    return columns


def _last(text: str, start: str) -> str:
    """Return the rest of the last line that begins so, empty if there is none."""
    _, found, rest = text.rpartition(f"\n{start}")
    return rest.partition("\n")[0] if found else ""
