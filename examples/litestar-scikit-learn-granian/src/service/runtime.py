"""scikit-learn: an estimator or a pipeline in a ``.skops`` file.

Skops creates objects only of types that it knows to be safe, and of those that the manifest's
parameter ``trusted`` lists. The input is one matrix, or, with the parameter ``frame``, a pandas
DataFrame that is made of a tensor for each column. Text reaches the estimator as ``str``.

An only output is that of the method that the parameter ``method`` names, by default of
``predict_proba``, or of ``predict`` if there is none. Several go by their names, see `_OUTPUTS`.

Libraries are imported where they are used, so that importing this module stays cheap.
"""

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.core import tables
from service.core.errors import Refused
from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import (
    Array,
    Feature,
    Signature,
    Tensors,
    TensorSpec,
    convert_output,
    datatype_of,
    decode_text,
)

RUNTIME: Final = "scikit-learn"

_METHODS: Final = ("predict_proba", "predict", "decision_function", "transform")
"""The first of them that an estimator has is the default."""
_OUTPUTS: Final = {
    "probabilities": "predict_proba",
    "prediction": "predict",
    "scores": "decision_function",
    "transformed": "transform",
}
"""Outputs by name. With several targets, ``probabilities_0`` has the first target's, and so on."""


@dataclass(slots=True)
class _Column:
    """What the parts of an estimator know about a column.

    ``strict``: whether a value outside of its categories is an error. ``imputed``: whether a part
    fills in missing values. ``missing``: what stands for a missing text.
    """

    name: str
    used: bool = False
    text: bool = False
    categories: tuple[Any, ...] = ()
    strict: bool = False
    imputed: bool = False
    missing: object = np.nan

    @property
    def known(self) -> tuple[Any, ...]:
        """The categories, without those that stand for a missing value."""
        return tuple(value for value in self.categories if not tables.is_missing(value))

    @property
    def optional(self) -> bool:
        """Whether a missing value has a meaning, as far as imputers and categories tell."""
        return self.imputed or len(self.known) < len(self.categories)

    @property
    def datatype(self) -> str:
        if self.text:
            return "BYTES"
        kinds = {type(value) for value in self.categories}
        if self.imputed or not kinds <= {int, bool} or len(kinds) != 1:
            return "FP64"
        return "BOOL" if kinds == {bool} else "INT64"

    @property
    def example(self) -> Any:
        """A value that the column may have."""
        return self.known[0] if self.known else "text" if self.text else 0

    def feature(self, *, optional: bool) -> Feature:
        return Feature(
            self.name,
            self.datatype,
            () if self.datatype == "BOOL" else self.known,
            optional=optional,
        )


class _Table:
    """The columns of an estimator, and whether it can only take them by name."""

    def __init__(self, estimator: Any) -> None:
        names = getattr(estimator, "feature_names_in_", None)
        count = getattr(estimator, "n_features_in_", 0)
        self.named = names is not None
        self.by_name = False
        if names is None:
            names = [f"x{index}" for index in range(count or 0)]
        every = [_Column(str(name)) for name in names]
        self._learn(estimator, every)
        self.columns = every

    @property
    def used(self) -> list[_Column]:
        return [column for column in self.columns if column.used]

    @property
    def mixed(self) -> bool:
        """Whether some of the columns are text, and others are not."""
        return len({column.text for column in self.columns if column.used}) > 1

    def _learn(self, part: Any, columns: list[_Column]) -> None:
        """Learn what a part of an estimator knows about the columns that it gets."""
        if part is None or isinstance(part, str):
            for column in columns:
                column.used = column.used or part != "drop"
        elif hasattr(part, "transformers_"):
            for _, transformer, chosen in part.transformers_:
                self._learn(transformer, self._choose(columns, chosen))
        elif hasattr(part, "steps"):
            for _, step in part.steps:
                self._learn(step, columns)
                if not _keeps_columns(step):
                    break
        elif hasattr(part, "transformer_list"):
            for _, transformer in part.transformer_list:
                self._learn(transformer, columns)
        else:
            _describe(part, columns)
            for inner in _held(part):
                if getattr(inner, "n_features_in_", None) == len(columns):
                    self._learn(inner, columns)

    def _choose(self, columns: list[_Column], chosen: Any) -> list[_Column]:
        """Return the columns that a ColumnTransformer passes to one of its transformers."""
        if isinstance(chosen, slice):
            if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
                self.by_name = True
                names = [column.name for column in columns]
                start = 0 if chosen.start is None else names.index(chosen.start)
                stop = len(names) if chosen.stop is None else names.index(chosen.stop) + 1
                return columns[start : stop : chosen.step]
            return columns[chosen]
        keys = np.atleast_1d(np.asarray(chosen))
        if keys.dtype.kind == "b":
            return [column for column, taken in zip(columns, keys, strict=True) if taken]
        if keys.dtype.kind in "OUT":
            self.by_name = True
            by_name = {column.name: column for column in columns}
            return [by_name[str(key)] for key in keys]
        return [columns[int(key)] for key in keys]


class Model:
    """An estimator, and the methods of it that are served."""

    def __init__(self, estimator: Any, manifest: Manifest) -> None:
        self._frame = tables.wants_frame(manifest)
        self._table = table = _Table(estimator)
        self._features = tuple(
            column.feature(optional=column.optional) for column in table.columns if column.used
        )
        self._inputs = manifest.input_specs()
        self._outputs = {spec.name: spec for spec in manifest.output_specs()}
        self._methods = _methods(estimator, manifest)
        self._estimator = estimator
        if self._frame:
            if not table.named:
                raise ArtifactError(
                    "the estimator was not fitted on a DataFrame, which names columns"
                )
            tables.pandas()
            inputs = tables.column_specs(self._features)
            tables.check_columns(manifest, self._features)
        else:
            if table.by_name:
                raise ArtifactError(
                    "the estimator takes columns by their names: make the manifest with "
                    "--parameter frame=true"
                )
            if len(manifest.inputs) != 1:
                raise ArtifactError(
                    "an estimator has one input, the manifest has more: make it with --parameter "
                    "frame=true for a tensor for each column"
                )
            count = getattr(estimator, "n_features_in_", None)
            inputs = () if count is None else (TensorSpec("features", "FP64", (-1, count)),)
        self.signature = Signature(
            inputs,
            tuple(
                _output(estimator, spec, *self._methods[spec.name])
                for spec in self._outputs.values()
            ),
            named=self._frame,
            converts=True,
            features=self._features,
        )

    def run(self, batch: Tensors) -> Tensors:
        """Predict the rows of the input.

        Raises:
            Refused: the estimator raises because a value is missing, or not among its categories.
        """
        rows = tables.frame(self._columns(batch)) if self._frame else self._matrix(batch)
        made: dict[str, Any] = {}
        try:
            for method, _ in self._methods.values():
                if method not in made:
                    made[method] = getattr(self._estimator, method)(rows)
        except ValueError as error:
            raise self._refusal(self._columns(batch), str(error)) or error from error
        return {
            name: convert_output(self._outputs[name], _pick(made[method], index))
            for name, (method, index) in self._methods.items()
        }

    def _matrix(self, batch: Tensors) -> Array:
        spec = self._inputs[0]
        rows = batch[spec.name]
        return decode_text(spec.name, rows) if spec.datatype == "BYTES" else rows

    def _columns(self, batch: Tensors) -> dict[str, Array]:
        """Return the columns by name; none for rows that are no table."""
        if self._frame:
            return {
                feature.name: tables.texts(feature, batch[feature.name], column.missing)
                if feature.datatype == "BYTES"
                else batch[feature.name]
                for column, feature in zip(self._table.used, self._features, strict=True)
            }
        names = [column.name for column in self._table.columns]
        rows = self._matrix(batch)
        return dict(zip(names, rows.T, strict=True)) if rows.ndim == 2 else {}

    def _refusal(self, columns: dict[str, Array], error: str) -> Refused | None:
        """Return which value an estimator cannot take, if that is why it raised."""
        for column in self._table.columns:
            if column.strict and column.name in columns:
                refused = tables.unknown(column.name, column.categories, columns[column.name])
                if refused:
                    return refused
        if "NaN" not in error:
            return None
        for column in self._table.columns:
            values = columns.get(column.name)
            if (
                values is not None
                and not column.imputed
                and any(map(tables.is_missing, values.tolist()))
            ):
                return Refused("must not be missing", field=column.name)
        return None


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
    _limit(threads)
    _expect_no_names()
    return Model(estimator, manifest)


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    """Describe the columns that the estimator has learned, and predict a made-up row.

    Raises:
        ArtifactError: the file is not an estimator, has types that are not trusted, or the
            estimator does not describe the columns or texts that it takes.
    """
    estimator = _read(artifact, parameters)
    _expect_no_names()
    wanted = tables.frame_parameter(parameters)
    try:
        table = _Table(estimator)
        framed = _needs_frame(estimator, table, parameters) if wanted is None else wanted
        if framed and not table.named:
            raise ValueError("it was not fitted on a DataFrame, which names columns")
        row = functools.partial(_row, table, framed=framed)
        outputs = _outputs(estimator, row(), parameters)
        features = _features(estimator, table, row, framed=framed)
        inputs = tables.column_specs(features) if framed else (_matrix(table),)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(
            "the estimator does not describe its tensors: do it with --input (BYTES for text) and "
            f"--output ({_one_line(error)})"
        ) from error
    return Signature(
        inputs,
        outputs,
        named=framed,
        converts=True,
        features=features,
        classes=_classes(estimator, outputs),
        parameters={"frame": True} if framed else {},
    )


def _needs_frame(estimator: Any, table: _Table, parameters: dict[str, Any]) -> bool:
    """Return whether an estimator that was fitted on a DataFrame cannot predict a matrix."""
    if not table.named:
        return False
    if table.by_name or table.mixed:
        return True
    try:
        _outputs(estimator, _row(table, framed=False), parameters)
    except Exception:
        return True
    return False


def _matrix(table: _Table) -> TensorSpec:
    """Return the only input of an estimator: texts, or rows of texts or of numbers."""
    if not table.columns:
        return TensorSpec("features", "BYTES", (-1,))
    if table.mixed:
        raise ValueError("some of its columns are text")
    datatype = "BYTES" if table.columns[0].text else "FP64"
    return TensorSpec("features", datatype, (-1, len(table.columns)))


def _row(table: _Table, missing: _Column | None = None, *, framed: bool) -> Any:
    """Return a made-up row. ``missing``: the column without a value."""
    if not table.columns:
        return np.array(["text"], dtype=object)
    values = {
        column.name: column.missing if column is missing else column.example
        for column in (table.used if framed else table.columns)
    }
    if framed:
        return tables.frame({name: np.array([value], object) for name, value in values.items()})
    datatype = _matrix(table).datatype
    return np.array([list(values.values())], object if datatype == "BYTES" else np.float64)


def _features(
    estimator: Any, table: _Table, row: Callable[..., Any], *, framed: bool
) -> tuple[Feature, ...]:
    """Return the columns; those of numbers may be missing if the estimator predicts without."""
    method = next(name for name in _METHODS if hasattr(estimator, name))

    def takes_missing(column: _Column) -> bool:
        if column.text or column.categories:
            return column.optional and framed
        try:
            values = _dense(getattr(estimator, method)(row(column)))
        except Exception:
            return False
        return values.dtype.kind != "f" or not np.isnan(values).any()

    return tuple(
        column.feature(optional=takes_missing(column))
        for column in (table.used if framed else table.columns)
    )


def _outputs(estimator: Any, row: Any, parameters: dict[str, Any]) -> tuple[TensorSpec, ...]:
    """Return the outputs that an estimator should have, as it predicts a row."""
    methods = [_method(estimator, parameters)]
    if "method" not in parameters and methods != ["transform"]:
        methods = [
            name
            for name in ("predict_proba", "predict", "decision_function")
            if hasattr(estimator, name)
        ][:2]
    specs = []
    names = {method: name for name, method in _OUTPUTS.items()}
    for method in methods:
        values = getattr(estimator, method)(row)
        if isinstance(values, list):
            found = {f"{names[method]}_{index}": each for index, each in enumerate(values)}
        else:
            found = {names[method]: values}
        for name, each in found.items():
            array = _dense(each)
            datatype = "BYTES" if array.dtype.kind in "OSU" else datatype_of(array.dtype)
            datatype = "FP32" if method == "predict_proba" else datatype
            specs.append(TensorSpec(name, datatype, (-1, *array.shape[1:])))
    return tuple(specs)


def _classes(estimator: Any, outputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
    """Return the classes of a classifier that has one target."""
    classes = getattr(estimator, "classes_", None)
    several = any(spec.name == "prediction" and len(spec.shape) > 1 for spec in outputs)
    if several or not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return ()
    return tuple(classes.tolist())


def _describe(part: Any, columns: Sequence[_Column]) -> None:
    """Write down what an encoder, an imputer or a vectorizer knows about its columns."""
    categories = getattr(part, "categories_", ())
    for index, column in enumerate(columns):
        column.used = True
        if hasattr(part, "build_analyzer"):
            column.text = True
        elif hasattr(part, "missing_values") and hasattr(part, "add_indicator"):
            column.imputed = True
            if not isinstance(part.missing_values, float | int):
                column.missing = part.missing_values
        if len(categories) == len(columns) and not column.categories:
            known = [_plain(value) for value in categories[index]]
            column.categories = tuple(known)
            column.text = any(isinstance(value, str) for value in known)
            column.strict = getattr(part, "handle_unknown", "ignore") == "error"
            if any(value is None for value in known) and not column.imputed:
                column.missing = None


def _keeps_columns(step: Any) -> bool:
    """Return whether the next step of a pipeline gets the columns that this one gets."""
    if step is None or step == "passthrough":
        return True
    if hasattr(step, "missing_values") and hasattr(step, "add_indicator"):
        return bool(len(step.get_feature_names_out()) == step.n_features_in_)
    return type(step).__name__.endswith("Scaler")


def _held(part: Any) -> Iterator[Any]:
    """Yield the estimators that an estimator is made of."""
    held = [value for name, value in vars(part).items() if name != "transformer_"]
    while held:
        value = held.pop()
        if isinstance(value, list | tuple):
            held.extend(value)
        elif isinstance(value, np.ndarray) and value.dtype == object:
            held.extend(value.flat)
        elif hasattr(value, "get_params") and not isinstance(value, type):
            yield value


def _dense(values: Any) -> Array:
    """Return what an estimator made as an array; it may be a sparse matrix or a DataFrame."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


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
    there = [name for name in _METHODS if hasattr(estimator, name)]
    if not there:
        raise ArtifactError(f"the estimator has none of the methods {', '.join(_METHODS)}")
    method = str(parameters.get("method", there[0]))
    if method not in there:
        raise ArtifactError(
            f"the estimator cannot be served by '{method}', it has: {', '.join(there)}"
        )
    return method


def _methods(estimator: Any, manifest: Manifest) -> dict[str, tuple[str, int | None]]:
    """Return the method that makes each output, and which target's part of it that is."""
    names = [tensor.name for tensor in manifest.outputs]
    if len(names) == 1:
        _, index = _by_name(names[0])
        return {names[0]: (_method(estimator, manifest.parameters), index)}
    if "method" in manifest.parameters:
        raise ArtifactError("the parameter 'method' is for an only output, the manifest has more")
    methods = {}
    for name in names:
        method, index = _by_name(name)
        if not method:
            raise ArtifactError(
                f"the output '{name}' is not known, several go by names: {', '.join(_OUTPUTS)}; "
                "probabilities_0 and so on for each of several targets"
            )
        methods[name] = (_method(estimator, {"method": method}), index)
    return methods


def _by_name(name: str) -> tuple[str, int | None]:
    """Return the method of an output, empty if it has a name of its own, and which part of it."""
    base, _, index = name.rpartition("_")
    if base in _OUTPUTS and index.isdecimal():
        return _OUTPUTS[base], int(index)
    return _OUTPUTS.get(name, ""), None


def _output(estimator: Any, spec: TensorSpec, method: str, index: int | None) -> TensorSpec:
    """Return an output as the estimator has it: often it knows its classes."""
    classes = getattr(estimator, "classes_", None)
    if method != "predict_proba" or not isinstance(classes, np.ndarray) or index is not None:
        return spec
    return TensorSpec(spec.name, "FP32", (-1, len(classes)))


def _pick(values: Any, index: int | None) -> Array:
    """Return one target's part of what a method returned, or all of it."""
    if index is not None:
        return _dense(values[index])
    if isinstance(values, list):
        raise ValueError("there are several targets: name outputs probabilities_0 and so on")
    return _dense(values)


def _limit(threads: int) -> None:
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    # An estimator's own n_jobs costs milliseconds a call, more than it brings to a batch.
    parallel_config(backend="sequential")


def _expect_no_names() -> None:
    """Ignore the warning that a matrix has no names: its columns have the order of the names.

    A DataFrame would take three times as long.
    """
    warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
