"""Writes a predict.py for models of many kinds: ``python plans.py FOLDER``, inside a service."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from service.core import examples, manifest
from service.core.tensors import Feature, Tensors, TensorSpec
from service.scaffold.answers import ask
from service.scaffold.plan import make_plan
from service.scaffold.predict_text import write
from service.scaffold.rows import instances

ODD = (
    *("sepal length (cm)", "model_id", "class", "json", "float", "Field", "3d", "größe", "Größe"),
    *("性別" * 20, "a" * 200, "a b " * 60, "x", "X", "", "schema", "copy", "label", "Instance"),
    *("ﬁt", "'q'", '"q"', "\\back\tslash", "жук", "np", "f(x)", "f x ", "_private", "__init__"),
)
CITIES = ("Rome", "Zürich", "it's")
LONG = tuple(f"category number {index}" for index in range(20))
MIXED = (
    Feature("age", "FP64", optional=True, minimum=0.0, maximum=120.5),
    Feature("city name", "BYTES", CITIES, optional=True),
    Feature("size", "BYTES", ("S", "M", "L")),
    Feature("count", "INT64"),
    Feature("in stock", "BOOL"),
    Feature("note", "BYTES"),
    Feature("note 2", "BYTES", optional=True),
    Feature("code", "INT64", (1, 2, 3)),
    Feature("half", "FP64", (1.0, 2.5)),
    Feature("street", "BYTES", tuple(map(str, range(99)))),
    Feature("long", "BYTES", LONG),
    Feature("long 2", "BYTES", LONG, optional=True),
)


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def floats(count: int, optional: int = 0, datatype: str = "FP32") -> tuple[Feature, ...]:
    """Return columns, of which the first may be missing."""
    return tuple(
        Feature(f"column {index}", datatype, optional=index < optional) for index in range(count)
    )


def frame(columns: Sequence[Feature]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(column.name, column.datatype, (-1,)) for column in columns)


def matrix(count: int) -> tuple[TensorSpec, ...]:
    return (spec("features", "FP32", -1, count),)


def scores(count: int) -> TensorSpec:
    return spec("probabilities", "FP32", -1, count)


Model = tuple[
    Sequence[TensorSpec], Sequence[TensorSpec], Sequence[Feature], Sequence[str | int | float]
]
BOUNDED = tuple(Feature(name, "FP32", minimum=0.1, maximum=9.0) for name in ODD[:3])
ODDLY_NAMED = tuple(Feature(name, "FP32", optional=len(name) % 2 > 0) for name in ODD)
CODES = (Feature("a", "FP32", (0, 1, 2)), Feature("b", "FP32"))
TEXTS = (Feature("colour", "BYTES", ("red", "blue")), Feature("size", "BYTES", ("S", "M")))
MANY_OUTPUTS = (
    *(spec(f"a rather long name {index}", "FP32", -1, *[2] * (index % 3)) for index in range(6)),
    *(spec("names", "BYTES", -1, 2), spec("ok", "BOOL", -1)),
)
ROWS: dict[str, Model] = {
    "bounds": (matrix(3), [scores(3)], BOUNDED, ("setosa", "versicolor", 'vir"ginica\n')),
    "names": (matrix(len(ODD)), [scores(3)], ODDLY_NAMED, (0, 1, 2)),
    "one": ([spec("x", "FP64", -1, 1)], [spec("y", "FP64", -1)], [Feature("x", "FP64")], ()),
    "one_array": ([spec("x", "FP64", -1, 1)], [spec("y", "FP64", -1, 1)], (), ()),
    "wide": (matrix(200), [scores(2), spec("label", "INT64", -1)], floats(200, 100), (0, 1)),
    "wide_optional": (matrix(60), [scores(2)], floats(60, 60), (True, False)),
    "wide_required": (matrix(60), [spec("score", "FP32", -1, 1)], floats(60), ()),
    "wide_frame": (
        frame(floats(60, 3, "FP64")),
        [spec("score", "FP32", -1)],
        floats(60, 3, "FP64"),
        (),
    ),
    "mixed": (frame(MIXED), [spec("prediction", "BYTES", -1), scores(3)], MIXED, ("a", "b", "c")),
    "classes": (matrix(2), [scores(70)], floats(2), tuple(f"class {each}" for each in range(70))),
    "codes": (matrix(2), [scores(2), spec("prediction", "FP64", -1)], CODES, (1.5, 2.5)),
    "texts": ([spec("features", "BYTES", -1, 2)], [scores(2)], TEXTS, ("a", "b")),
    "text": ([spec("text", "BYTES", -1)], [scores(2)], (), ("negative", "positive")),
    "image": ([spec("image", "FP32", -1, 3, 8, 8)], [scores(3)], (), ()),
    "sequences": (
        [spec("ids", "INT64", -1, -1), spec("mask", "INT64", -1, -1)],
        [spec("logits", "FP32", -1, -1, 5), spec("pooled", "FP16", -1, 4)],
        (),
        (),
    ),
    "ragged": ([spec("x", "FP32", -1, -1, -1)], [spec("logits", "FP32", -1, 2)], (), ()),
    "outputs": ([spec("x", "INT8", -1, 2)], MANY_OUTPUTS, (), ()),
    "datatypes": (
        [
            *(spec("x", "UINT64", -1, 2), spec("y", "UINT8", -1), spec("z", "BOOL", -1, 2)),
            *(spec("t", "BYTES", -1, 2, 2), spec("h", "FP16", -1)),
        ],
        [spec("y", "FP32", -1, 2)],
        (),
        (),
    ),
}
WHOLE: dict[str, Model] = {
    "voices": (
        [
            *(spec("input", "FP32", -1, -1), spec("state", "FP32", 2, -1, 4)),
            spec("rate", "INT64"),
        ],
        [spec("output", "FP32", -1, 1), spec("new state", "FP32", 2, -1, 4)],
        (),
        (),
    ),
    "boxes": (
        [spec("x", "FP32", -1, 3)],
        [spec("23", "INT64", -1, 2), spec("names", "BYTES", -1)],
        (),
        (),
    ),
}


def model(outputs: Sequence[TensorSpec], *, rows: bool) -> Callable[[Tensors], Tensors]:
    """Return a model that answers the same to everything."""

    def run(batch: Tensors) -> Tensors:
        count = len(next(iter(batch.values()))) if rows else 2
        made: Tensors = {}
        for output in outputs:
            shape = [2 if size == -1 else size for size in output.shape]
            shape[0] = count if output.shape[0] == -1 else shape[0]
            value = b"a" if output.datatype == "BYTES" else 1
            made[output.name] = np.full(shape, value, output.dtype)
        return made

    return run


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir()
    for models, rows in ((ROWS, True), (WHOLE, False)):
        for name, (inputs, outputs, columns, classes) in models.items():
            described = manifest.describe(
                Path(__file__), name=name, version="1", runtime="", inputs=inputs, outputs=outputs
            )
            plan = make_plan(described, columns, classes, batched=rows)
            run = model(outputs, rows=rows)
            candidates = list(examples.made_up(described.input_specs()))
            answers = ask(write(plan), run, inputs, instances(plan, candidates))
            text = write(plan, answers[0].instance)
            ask(text, run, inputs, [answers[0].instance])
            (folder / f"{name}.py").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
