"""Decides what an instance of a model is: columns of a table, or tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.core.manifest import ArtifactError, Manifest
from service.core.tensors import Feature, TensorSpec, batchable

_MANY: Final = 50
"""More columns than these become one field."""
_LARGE: Final = 1000
"""More values than these in an instance are better sent as tensors."""


@dataclass(frozen=True, slots=True)
class Table:
    """A model that takes a row of columns.

    ``matrix``: its input that holds all of them; None if each column is an input, of its name.
    ``one_field``: whether the columns are one field of an instance, by their names.
    """

    columns: tuple[Feature, ...]
    matrix: TensorSpec | None
    one_field: bool


@dataclass(frozen=True, slots=True)
class Arrays:
    """A model that takes tensors.

    ``rows``: whether an instance is a row of each; else it is all of them. ``ragged``: whether
    instances may differ in shape, so that each is converted to tensors of its own.
    """

    inputs: tuple[TensorSpec, ...]
    rows: bool
    ragged: bool

    def shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape that a tensor has in an instance."""
        return spec.shape[1:] if self.rows else spec.shape


@dataclass(frozen=True, slots=True)
class Plan:
    """What predict.py says.

    ``classes``: those of a classifier, as its probabilities have them. ``json_outputs``: the names
    of outputs whose texts are JSON.
    """

    name: str
    instance: Table | Arrays
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str | int | float, ...]
    json_outputs: tuple[str, ...] = ()

    @property
    def rows(self) -> bool:
        """Whether an output has a row for an instance."""
        return isinstance(self.instance, Table) or self.instance.rows


def make_plan(
    manifest: Manifest,
    columns: Sequence[Feature],
    classes: Sequence[str | int | float],
    *,
    batched: bool,
) -> Plan:
    """Decide what instances are.

    ``columns``: those that the artifact or the owner names, if there are any. ``batched``: whether
    the first axis is a batch.

    Raises:
        ArtifactError: an instance would be too large for JSON, or the outputs have no rows.
    """
    outputs = manifest.output_specs()
    table = _table(manifest, columns)
    if table and batchable(outputs):
        return Plan(manifest.name, table, outputs, tuple(classes))
    inputs = manifest.input_specs()
    rows = batched and batchable((*inputs, *outputs))
    arrays = Arrays(inputs, rows, ragged=not rows)
    if rows:
        varying = any(-1 in spec.shape[1:] for spec in inputs)
        arrays = replace(arrays, ragged=varying)
    values = 0
    for spec in inputs:
        size = 1
        for length in arrays.shape(spec):
            size *= max(length, 1)
        values += size
    if values > _LARGE:
        raise ArtifactError(
            f"an instance has {values} values, too many for JSON: the model is served under /v2 "
            "(SERVICE_PREDICT_ENDPOINT=false); for /predict, write src/service/predict.py yourself"
        )
    return Plan(manifest.name, arrays, outputs, tuple(classes))


def named_columns(
    manifest: Manifest, features: Sequence[Feature], names: Sequence[str]
) -> tuple[Feature, ...]:
    """Return the columns of a matrix under other names.

    Raises:
        ArtifactError: the model does not take one matrix, or its number of columns differs.
    """
    matrix = manifest.input_specs()[0]
    if len(manifest.inputs) != 1 or matrix.shape[1:] != (len(names),):
        shapes = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in manifest.inputs)
        raise ArtifactError(f"{len(names)} names of columns do not fit the inputs: {shapes}")
    if len(set(names)) != len(names):
        raise ArtifactError("two columns have the same name")
    if len(features) == len(names):
        pairs = zip(features, names, strict=True)
        return tuple(replace(feature, name=name) for feature, name in pairs)
    return tuple(Feature(name, matrix.datatype) for name in names)


def _table(manifest: Manifest, columns: Sequence[Feature]) -> Table | None:
    if not columns:
        return None
    specs = {tensor.name_in_artifact: tensor.spec() for tensor in manifest.inputs}
    if all(feature.name in specs for feature in columns) and len(specs) == len(columns):
        if any(spec.shape != (-1,) for spec in specs.values()):
            return None
        named = tuple(
            replace(
                feature,
                name=specs[feature.name].name,
                datatype=specs[feature.name].datatype,
            )
            for feature in columns
        )
        return Table(named, None, _fits_one_field(named))
    (matrix, *others) = specs.values()
    if others or len(matrix.shape) != 2 or matrix.shape[1] not in (-1, len(columns)):
        return None
    optional = matrix.datatype.startswith("FP")
    typed = tuple(
        replace(feature, datatype=matrix.datatype, optional=feature.optional and optional)
        for feature in columns
    )
    return Table(typed, matrix, _fits_one_field(typed))


def _fits_one_field(columns: Sequence[Feature]) -> bool:
    """Return whether columns are so many, and so alike, that they are better off in one field."""
    datatypes = {column.datatype for column in columns}
    return (
        len(columns) > _MANY
        and len(datatypes) == 1
        and datatypes.pop().startswith("FP")
        and not any(column.categories for column in columns)
    )
