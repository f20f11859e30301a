"""CatBoost: a model in a ``.cbm`` file.

The input is one matrix, or, with the parameter ``frame``, a tensor for each column; a model with
categories needs the latter. A category is text, and a whole number is the text of its digits, as
CatBoost itself takes both for the same. The file does not list the categories: one that the model
has not seen is taken as CatBoost documents it, like one without examples in training.

A classifier returns the probability of every class, also if there are only two. Any other model
returns its prediction.

The library is imported where it is used, so that importing this module stays cheap.
"""

from dataclasses import replace
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
    decode_text,
)

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

RUNTIME: Final = "catboost"


class Model:
    """A model and the threads it predicts with."""

    def __init__(
        self, model: "CatBoostRegressor", signature: Signature, manifest: Manifest, threads: int
    ) -> None:
        self.signature = signature
        self._frame = tables.wants_frame(manifest)
        self._model = model
        self._threads = threads
        self._input = manifest.inputs[0].name
        self._output = manifest.output_specs()[0]

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input; a missing number is NaN.

        Raises:
            InvalidTensors: a category is missing, or not UTF-8.
        """
        rows = _rows(self.signature.features, batch) if self._frame else batch[self._input]
        values = _predict(self._model, rows, self._threads)
        return {self._output.name: convert_output(self._output, values)}


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    """Load a model. ``device``: ``cpu``.

    Raises:
        ArtifactError: the file is not a model, or the device is not the CPU.
    """
    if device != "cpu":
        raise ArtifactError(f"the device '{device}' is not available, CatBoost has: cpu")
    framed = tables.wants_frame(manifest)
    if not framed:
        check_numbers(manifest, "CatBoost")
    model = _read(artifact)
    signature = _signature(model, framed=framed)
    output = replace(signature.outputs[0], name=manifest.outputs[0].name)
    if framed:
        tables.check_columns(manifest, signature.features)
    return Model(model, replace(signature, outputs=(output,)), manifest, threads)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Read columns and classes from the model, which computes with features in FP32.

    Raises:
        ArtifactError: the file is not a model, or has features that are texts or embeddings.
    """
    return _signature(_read(artifact), framed=tables.frame_parameter(parameters))


def _read(artifact: Path) -> "CatBoostRegressor":
    from catboost import CatBoostError, CatBoostRegressor

    model = CatBoostRegressor()  # which predicts by the loss; it loads any model
    try:
        model.load_model(artifact)
    except CatBoostError as error:
        cause = str(error).partition("\n")[0]
        raise ArtifactError(f"{artifact} cannot be loaded: {cause}") from error
    if model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise ArtifactError(
            f"{artifact} has features that are texts or embeddings: load it in code of your own, "
            "with the runtime 'python'"
        )
    return model


def _predict(model: "CatBoostRegressor", rows: Array, threads: int) -> Array:
    """Return the probabilities of the classes, or what a regressor predicts by its loss."""
    kind = "Probability" if len(model.classes_) else None
    return np.asarray(model.predict(rows, prediction_type=kind, thread_count=threads))


def _signature(model: "CatBoostRegressor", *, framed: bool | None) -> Signature:
    """Describe a model. ``framed``: with a tensor for each column; None: if it needs them.

    Raises:
        ArtifactError: it needs them, and ``framed`` is False.
    """
    categories = set(model.get_cat_feature_indices())
    features = tuple(
        Feature(name, "BYTES") if index in categories else Feature(name, "FP32", optional=True)
        for index, name in enumerate(model.feature_names_)
    )
    if framed is None:
        framed = bool(categories)
    if categories and not framed:
        raise ArtifactError(
            "the model has categories, which are text: it needs an input for each column, with "
            "--parameter frame=true"
        )
    row = np.array([["" if index in categories else 0.0 for index in range(len(features))]], object)
    (answer,) = _predict(model, row, threads=1)
    classes = tuple(model.classes_.tolist()) if len(model.classes_) else ()
    return Signature(
        tables.column_specs(features)
        if framed
        else (TensorSpec("features", "FP32", (-1, len(features))),),
        (TensorSpec("probabilities" if classes else "prediction", "FP64", (-1, *answer.shape)),),
        named=framed,
        converts=True,
        features=features,
        classes=classes,
        parameters={"frame": True} if framed else {},
    )


def _rows(features: tuple[Feature, ...], columns: Tensors) -> Array:
    """Return columns as a matrix of numbers, or of objects if some of them are text.

    Raises:
        InvalidTensors: a text is missing, or not UTF-8.
    """
    texts = {
        feature.name: decode_text(feature.name, columns[feature.name])
        for feature in features
        if feature.datatype == "BYTES"
    }
    dtype = np.object_ if texts else np.float32
    matrix = np.empty((len(columns[features[0].name]), len(features)), dtype)
    for index, feature in enumerate(features):
        matrix[:, index] = texts.get(feature.name, columns[feature.name])
    return matrix
