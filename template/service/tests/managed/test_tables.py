"""Tables: columns with categories, and with values that are missing."""

import numpy as np
import pytest

from service.core import examples, tables
from service.core.errors import Refused
from service.core.manifest import ArtifactError
from service.core.tensors import Array, Feature, Tensors, TensorSpec, convert_output, encode_text

AGE = Feature("age", "FP64", optional=True, minimum=18.0, maximum=99.0)
CITY = Feature("city", "BYTES", ("oslo", "rome"), optional=True)
ZONE = Feature("zone", "FP64", (10, 20), optional=True)
BLANK = Feature("blank", "BYTES", ("", "full"), optional=True)
TEXT = Feature("note", "BYTES")
COLUMNS: Tensors = {
    "age": np.array([30.0, np.nan]),
    "city": np.array([b"rome", None], dtype=object),
    "zone": np.array([20.0, np.nan]),
    "blank": np.array([b"", None], dtype=object),
}


def test_categories_become_their_codes_and_missing_values_nan() -> None:
    features = (AGE, CITY, ZONE, BLANK)
    matrix = tables.numbers(features, COLUMNS, np.float32)
    expected = np.array([[30, 1, 1, 0], [np.nan] * 4], dtype=np.float32)
    np.testing.assert_array_equal(matrix, expected)
    tables.check_codes([Feature(each.name, "FP32", (0, 1)) for each in features[1:]], matrix[:, 1:])


@pytest.mark.parametrize(
    ("feature", "wrong"), [(CITY, b"berlin"), (CITY, b"Rome"), (BLANK, b"x"), (ZONE, 15.0)]
)
def test_another_category_is_refused_with_its_row_and_column(
    feature: Feature, wrong: object
) -> None:
    column = COLUMNS[feature.name].copy()
    column[1] = wrong
    with pytest.raises(Refused) as refused:
        tables.numbers([feature], {feature.name: column}, np.float64)
    assert (refused.value.instance, refused.value.field) == (1, feature.name)


@pytest.mark.parametrize("feature", [CITY, ZONE, BLANK])
def test_what_is_known_or_missing_is_not_refused(feature: Feature) -> None:
    known = [each.encode() if isinstance(each, str) else each for each in feature.categories]
    column = COLUMNS[feature.name]
    assert tables.unknown(feature.name, known, column) is None
    refused = tables.unknown(feature.name, known[:0], column)
    assert isinstance(refused, Refused)
    assert (refused.instance, refused.field) == (0, feature.name)


@pytest.mark.parametrize("code", [-1, 2, 0.5])
def test_another_code_is_refused_with_its_row_and_column(code: float) -> None:
    matrix = np.array([[7.0, 0.0], [7.0, np.nan], [7.0, code]])
    with pytest.raises(Refused) as refused:
        tables.check_codes([AGE, Feature("city", "FP64", (0, 1))], matrix)
    assert (refused.value.instance, refused.value.field) == (2, "city")


@pytest.mark.parametrize(
    ("feature", "given", "expected"),
    [
        (CITY, [b"rome", b""], ["rome", None]),
        (BLANK, [b"full", b""], ["full", ""]),
        (TEXT, [b"words", b""], ["words", ""]),
        (CITY, [None, None], [None, None]),
    ],
)
def test_an_empty_text_is_missing_where_it_can_mean_nothing_else(
    feature: Feature, given: list[bytes | None], expected: list[str | None]
) -> None:
    assert tables.texts(feature, _text(given), None).tolist() == expected


def test_a_column_must_have_text_where_the_model_has_text() -> None:
    assert tables.column_specs([AGE, CITY])[1] == TensorSpec("city", "BYTES", (-1,))
    with pytest.raises(ArtifactError, match="true or false"):
        tables.frame_parameter({"frame": "yes"})


def test_rows_are_made_up_of_known_categories_and_within_bounds() -> None:
    features = (AGE, CITY, ZONE)
    for made in examples.made_up(tables.column_specs(features), features):
        tables.numbers(features, made.rows, np.float64)
        assert all(18 <= age <= 99 for age in made.rows["age"])
    codes = (Feature("a", "FP32", (0, 1, 2)), Feature("b", "FP32"))
    for made in examples.made_up([TensorSpec("features", "FP32", (-1, 2))], codes):
        tables.check_codes(codes, made.rows["features"])
    assert len({*made.rows["features"][:, 0].tolist()}) > 1


def test_a_missing_text_stays_missing_on_its_way_in_but_cannot_be_an_output() -> None:
    assert encode_text(_text(["a", None])).tolist() == [b"a", None]
    with pytest.raises(ValueError, match="'label' lacks a text"):
        convert_output(TensorSpec("label", "BYTES", (-1,)), _text(["a", None]))


def _text(values: list[bytes | None] | list[str | None]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
