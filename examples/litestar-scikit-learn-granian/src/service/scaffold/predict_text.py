"""Writes the text of a first predict.py."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.core.tensors import Feature, TensorSpec
from service.scaffold.code import Comprehension, Group, Piece, lines, literal, text
from service.scaffold.names import RESERVED, identifiers, type_name
from service.scaffold.plan import Arrays, Plan, Table

FIELD_OF_ALL: Final = "features"
"""The field that has all columns, if they are too many for fields of their own."""

_MANY_VALUES: Final = 50
"""More categories or classes than these are not listed in the schema."""
_LONGEST_TARGET: Final = 60
_LARGEST_FLOAT: Final = {"FP16": "65504", "FP32": "3.4028234e38"}
_NUMPY: Final = {"BOOL": "bool", "BYTES": "object"}
_PYTHON: Final = {"F": "float", "I": "int", "U": "int"}
_EACH: Final = "for instance in instances"
_ENCODED: Final = '''
def encoded(texts: Any) -> Any:
    """Encode texts, also in lists; None is a missing one."""
    if isinstance(texts, list):
        return [encoded(each) for each in texts]
    return None if texts is None else texts.encode()
'''
_DECODED: Final = '''
def decoded(texts: Any) -> Any:
    """Decode texts, also in lists."""
    return [decoded(each) for each in texts] if isinstance(texts, list) else texts.decode()
'''
_ARRAY: Final = '''
def array(field: str, values: Any, dtype: Any) -> Array:
    """Return nested lists as an array."""
    try:
        return np.array(values, dtype=dtype)
    except ValueError:
        raise Refused("has lists of different lengths", field=field) from None
'''
_KNOWN_COLUMNS: Final = """
    @field_validator("features")
    @classmethod
    def _has_the_columns(cls, features: dict[str, NUMBER]) -> dict[str, NUMBER]:
        for name in features:
            if name not in COLUMNS:
                raise ValueError(f"the model has no column {name[:100]!r}")
"""
_REQUIRED_COLUMNS: Final = """\
        for name in WHERE:
            if name not in features:
                raise ValueError(f"the column {name!r} is missing")
"""


def write(plan: Plan, example: Mapping[str, Any] | None = None) -> str:
    """Return the text of predict.py. ``example``: an instance for the documentation."""
    return _Writer(plan).write(example)


def field_names(plan: Plan) -> list[str]:
    """Return the fields of an instance: one for each column or input, or the one of all."""
    if isinstance(plan.instance, Arrays):
        return identifiers(spec.name for spec in plan.instance.inputs)
    if plan.instance.one_field:
        return [FIELD_OF_ALL]
    return identifiers(column.name for column in plan.instance.columns)


class _Writer:
    """Collects the types that the fields need.

    ``types``: definitions of types, by their names. ``helpers``: functions that the code calls.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fields = field_names(plan)
        self.outputs = identifiers(spec.name for spec in plan.outputs)
        self.types: dict[str, Piece] = {}
        self.constants: list[str] = []
        self.helpers: dict[str, str] = {}

    def write(self, example: Mapping[str, Any] | None) -> str:
        table = isinstance(self.plan.instance, Table)
        prediction, predictions = self._predictions()
        labels = self.constants
        self.constants = []
        instance = self._instance(example)
        body = text(self.types.values())
        body += "\n\n".join([*labels, *self.constants])
        body = f"{body}\n\n".lstrip("\n") if body else "\n"
        body += f'class Instance(BaseModel):\n    """{_noun(self.plan)}."""\n\n{instance}'
        body += '\n\nclass Prediction(BaseModel):\n    """What the model answers to it."""\n\n'
        body += text(prediction, 4)
        body += self._to_tensors()
        body += "\n\ndef to_predictions(outputs: Tensors) -> list[Prediction]:\n"
        each = "one for each row" if self.plan.rows else "the one of an instance"
        body += f'    """Convert the model\'s outputs to predictions, {each}."""\n'
        body += text([predictions], 4)
        body += "".join(f"\n\n{helper.lstrip()}" for helper in self.helpers.values())
        about = "the columns that it names" if table else "the tensors of its manifest"
        origin = (
            f"A first version for {self.plan.name}, from {about}. This file is yours: an update of "
            "the template never touches it."
        )
        filled = textwrap.fill(origin, 100, break_long_words=False, break_on_hyphens=False)
        return (
            '"""What an instance and a prediction are, and how they are converted to tensors and '
            f'back.\n\n{filled}\n"""\n\n{_imports(body)}\n{body}'
        )

    def _instance(self, example: Mapping[str, Any] | None) -> str:
        """Return the body of the class, without a docstring."""
        config: list[Piece] = ['extra="forbid"', "allow_inf_nan=False"]
        if example:
            shown = [_example(value, f'"{name}": ') for name, value in example.items()]
            if isinstance(self.plan.instance, Table) and self.plan.instance.one_field:
                value = next(iter(example[FIELD_OF_ALL].values()))
                shown = [f'"{FIELD_OF_ALL}": dict.fromkeys(COLUMNS, {value!r})']
            extra = Group('"examples": [', [Group("{", shown, "}")], "]")
            config.append(Group("json_schema_extra={", [extra], "}"))
        pieces: list[Piece] = [Group("model_config = ConfigDict(", config, ")")]
        body = text(pieces, 4) + "\n"
        if isinstance(self.plan.instance, Arrays):
            shapes = [self.plan.instance.shape(spec) for spec in self.plan.instance.inputs]
            specs = zip(self.fields, self.plan.instance.inputs, shapes, strict=True)
            return body + text([self._array_field(*each) for each in specs], 4)
        columns = self.plan.instance.columns
        if self.plan.instance.one_field:
            return body + self._field_of_all(columns)
        pairs = zip(self.fields, columns, strict=True)
        return body + text([self._column_field(field, column) for field, column in pairs], 4)

    def _column_field(self, field: str, column: Feature) -> Piece:
        arguments: list[Piece] = []
        values = column.categories
        if _listable(values) and _fits(values, column.datatype):
            kind = self._literal(type_name(field, self._taken()), values)
        elif column.minimum is not None or column.maximum is not None:
            kind = _python(column.datatype)
            arguments.append("strict=True")
            for name, bound in (("ge", column.minimum), ("le", column.maximum)):
                if bound is not None:
                    arguments.append(f"{name}={int(bound) if kind == 'int' else bound!r}")
        else:
            kind = self._number(column.datatype)
        return _field(field, column.name, kind, arguments, optional=column.optional)

    def _field_of_all(self, columns: Sequence[Feature]) -> str:
        number = self._number(columns[0].datatype)
        if any(column.optional for column in columns):
            number += " | None"
        required = [column.name for column in columns if not column.optional]
        every = len(required) == len(columns)
        self._names("COLUMNS", [column.name for column in columns], "In the order of the model.")
        check = _KNOWN_COLUMNS
        if required:
            where = "COLUMNS" if every else "REQUIRED"
            check += _REQUIRED_COLUMNS.replace("WHERE", where)
            if not every:
                self._names("REQUIRED", required, "Columns that must have a value.")
        check += "        return features\n"
        optional = "" if every else "; one that is left out is missing"
        description = literal(f"Values by the names of the columns{optional}", "description=")
        field = Group(f"{FIELD_OF_ALL}: dict[str, {number}] = Field(", [description], ")")
        return text([field], 4) + check.replace("NUMBER", number)

    def _names(self, constant: str, names: Sequence[str], docstring: str) -> None:
        """Define a tuple of names."""
        items = [literal(name) for name in names]
        tuple_ = Group(f"{constant}: Final = (", items, ")", one_each=True)
        self.constants.append(text([tuple_]) + f'"""{docstring}"""\n')

    def _array_field(self, field: str, spec: TensorSpec, shape: Sequence[int]) -> Piece:
        kind = self._number(spec.datatype)
        for size in reversed(shape[1:]):
            name = type_name(f"{field}_row", self._taken())
            self.types[name] = f"{name} = Annotated[list[{kind}], Field({_lengths(size)})]"
            kind = name
        if not shape:
            return _field(field, spec.name, kind, [], optional=False)
        return _field(field, spec.name, f"list[{kind}]", [_lengths(shape[0])], optional=False)

    def _to_tensors(self) -> str:
        plan = self.plan.instance
        ragged = isinstance(plan, Arrays) and plan.ragged
        kind, how = ("Tensors", "one row each")
        if ragged:
            kind, how = ("list[Tensors]", "those of each on their own")
        head = (
            f"\n\ndef to_tensors(instances: Sequence[Instance]) -> {kind}:\n"
            f'    """Convert instances to the model\'s inputs, {how}.\n\n'
            "    For an instance that cannot be converted, raise `service.core.errors.Refused`: its"
            " client gets\n    a 422 with the reason.\n"
            '    """\n'
        )
        return head + text(
            self._arrays_code(plan) if isinstance(plan, Arrays) else self._table_code(plan), 4
        )

    def _table_code(self, plan: Table) -> list[Piece]:
        get = "instance.features[name]"
        if any(column.optional for column in plan.columns):
            get = "instance.features.get(name)"
        if plan.matrix is None:
            if plan.one_field:
                dtype = _dtype(plan.columns[0].datatype)
                values = Group("np.array(", [f"[{get} {_EACH}]", f"dtype={dtype}"], ")")
                values = Group(f"name: {values.before}", values.items, ")")
                return [Comprehension("return {", values, "for name in COLUMNS", "}")]
            pairs = zip(self.fields, plan.columns, strict=True)
            return [
                Group(
                    "return {",
                    [
                        self._stacked(field, column.name, column.datatype, deep=column.optional)
                        for field, column in pairs
                    ],
                    "}",
                )
            ]
        encode = ".encode()" if plan.matrix.datatype == "BYTES" else ""
        items = [f"instance.{field}{encode}" for field in self.fields]
        element: Piece = Group("[", items, "]")
        if plan.one_field:
            element = f"[{get} for name in COLUMNS]"
        before = literal(plan.matrix.name)
        array = ["rows", f"dtype={_dtype(plan.matrix.datatype)}"]
        return [
            Comprehension("rows = [", element, _EACH, "]"),
            Group("return {", [Group(f"{before}: np.array(", array, ")")], "}"),
        ]

    def _arrays_code(self, plan: Arrays) -> list[Piece]:
        pairs = list(zip(self.fields, plan.inputs, strict=True))
        if not plan.ragged:
            items = [
                self._stacked(field, spec.name, spec.datatype, deep=len(spec.shape) > 1)
                for field, spec in pairs
            ]
            return [Group("return {", items, "}")]
        made = []
        for field, spec in pairs:
            values = f"instance.{field}"
            if spec.datatype == "BYTES":
                self.helpers["encoded"] = _ENCODED
                values = f"encoded({values})"
            values = f"[{values}]" if plan.rows else values
            dtype = _dtype(spec.datatype)
            arguments: list[Piece] = [values, f"dtype={dtype}"]
            call = "np.array("
            if -1 in plan.shape(spec)[1:]:
                self.helpers["array"] = _ARRAY
                arguments = [literal(field), values, dtype]
                call = "array("
            made.append(Group(f"{literal(spec.name)}: {call}", arguments, ")"))
        return [Comprehension("return [", Group("{", made, "}"), _EACH, "]")]

    def _stacked(self, field: str, name: str, datatype: str, *, deep: bool) -> Piece:
        """Return an entry of a dictionary: an array with a row for each instance."""
        value = f"instance.{field}"
        if datatype == "BYTES":
            if deep:
                self.helpers["encoded"] = _ENCODED
            value = f"encoded({value})" if deep else f"{value}.encode()"
        arguments = [f"[{value} {_EACH}]", f"dtype={_dtype(datatype)}"]
        return Group(f"{literal(name)}: np.array(", arguments, ")")

    def _predictions(self) -> tuple[list[Piece], Piece]:
        """Return the fields of a prediction, and the code that makes predictions."""
        plan = self.plan
        classes = plan.classes
        label = self._label() if classes else ""
        of_classes = next(
            (
                spec.name
                for spec in plan.outputs
                if label and spec.shape[1:] == (len(classes),) and spec.datatype.startswith("FP")
            ),
            None,
        )
        answered = [spec.name for spec in plan.outputs if _answers(spec, classes)]
        fields: list[Piece] = []
        arguments: list[Piece] = []
        names = self._row_names()
        for spec, field in zip(plan.outputs, self.outputs, strict=True):
            value = names[spec.name] if plan.rows else f"outputs[{literal(spec.name)}].tolist()"
            shape = spec.shape[1:] if plan.rows else spec.shape
            if spec.name == of_classes:
                if not answered:
                    free = "label" if "label" not in self.outputs else "predicted_label"
                    fields.append(_field(free, free, label, [], optional=False))
                    arguments.append(f"{free}=LABELS[{value}.index(max({value}))]")
                fields.append(
                    _field(
                        field,
                        spec.name,
                        "dict[str, float]",
                        ['description="Of each label"'],
                        optional=False,
                    )
                )
                keys = (
                    "LABELS"
                    if all(isinstance(each, str) for each in classes)
                    else "map(str, LABELS)"
                )
                pairs = Group("zip(", [keys, value, "strict=True"], ")")
                arguments.append(Group(f"{field}=dict(", [pairs], ")"))
                continue
            if plan.rows and shape == (1,):
                shape, value = (), f"{value}[0]"
            kind = label if spec.name in answered else _python(spec.datatype)
            if spec.name in plan.json_outputs and not shape:
                kind, value = "list[dict[str, Any]]", f"json.loads({value})"
            elif spec.datatype == "BYTES":
                if shape:
                    self.helpers["decoded"] = _DECODED
                value = f"decoded({value})" if shape else f"{value}.decode()"
            for _ in shape:
                kind = f"list[{kind}]"
            fields.append(_field(field, spec.name, kind, [], optional=False))
            arguments.append(f"{field}={value}")
        made = Group("Prediction(", arguments, ")")
        if not plan.rows:
            return fields, Group("return [", [made], "]")
        sources = [f"outputs[{literal(spec.name)}].tolist()" for spec in plan.outputs]
        loop: Piece = f"for row in {sources[0]}"
        if len(sources) > 1:
            target = "row" if names[plan.outputs[0].name] == "row[0]" else ", ".join(self.outputs)
            loop = Group(f"for {target} in zip(", [*sources, "strict=True"], ")")
        return fields, Comprehension("return [", made, loop, "]")

    def _row_names(self) -> dict[str, str]:
        """Return how generated code calls a row of each output."""
        names = [spec.name for spec in self.plan.outputs]
        if len(names) == 1:
            return {names[0]: "row"}
        if len(", ".join(self.outputs)) > _LONGEST_TARGET:
            return {name: f"row[{index}]" for index, name in enumerate(names)}
        return dict(zip(names, self.outputs, strict=True))

    def _label(self) -> str:
        """Define the labels of a classifier, and return their type."""
        classes = self.plan.classes
        order = '"""In the order of the model\'s probabilities."""\n'
        if _listable(classes):
            name = self._literal(type_name("label", self._taken()), classes)
            self.constants.append(f"LABELS: Final[tuple[{name}, ...]] = get_args({name})\n{order}")
            return name
        kinds = {type(each).__name__ for each in classes}
        items = [literal(each) for each in classes]
        self.constants.append(text([Group("LABELS: Final = (", items, ")", one_each=True)]) + order)
        return kinds.pop() if len(kinds) == 1 else "str | int | float"

    def _literal(self, name: str, values: Sequence[object]) -> str:
        """Define a type of a few values, unless there is one."""
        items = [literal(each) for each in values]
        for known, piece in self.types.items():
            if isinstance(piece, Group) and piece.items == items:
                return known
        self.types[name] = Group(f"{name} = Literal[", items, "]")
        return name

    def _number(self, datatype: str) -> str:
        """Define the type of a number that the datatype can hold, and return its name."""
        python = _python(datatype)
        if python == "str":
            return python
        name = {"F": "Float", "I": "Int", "U": "Uint", "B": "Bool"}[datatype[0]]
        bits = re.sub(r"\D", "", datatype)
        limits = ""
        if datatype in _LARGEST_FLOAT:
            largest = _LARGEST_FLOAT[datatype]
            limits = f", ge=-{largest}, le={largest}"
        elif python == "int":
            signed = datatype[0] == "I"
            power = int(bits) - signed
            limits = f", ge={f'-(2**{power})' if signed else '0'}, lt=2**{power}"
        self.types[f"{name}{bits}"] = (
            f"{name}{bits} = Annotated[{python}, Field(strict=True{limits})]"
        )
        return f"{name}{bits}"

    def _taken(self) -> set[str]:
        return {*RESERVED, *self.types, *self.fields, "LABELS", "COLUMNS", "REQUIRED"}


def _noun(plan: Plan) -> str:
    if isinstance(plan.instance, Table):
        bounded = any(column.minimum is not None for column in plan.instance.columns)
        learned = ", within the bounds of what it was trained on" if bounded else ""
        return f"A row of the model's table{learned}"
    return "A row of the model's inputs" if plan.rows else "The model's inputs"


def _field(
    field: str, name: str, kind: str, arguments: Sequence[Piece], *, optional: bool
) -> Piece:
    described = any("description=" in str(each) for each in arguments)
    every: list[Piece] = ["default=None"] if optional else []
    every += arguments
    if name != field and not described:
        every.append(literal(name, "description="))
    annotation = f"{kind} | None" if optional else kind
    if every in ([], ["default=None"]):
        return f"{field}: {annotation}{' = None' if every else ''}"
    return Group(f"{field}: {annotation} = Field(", every, ")")


def _example(value: Any, before: str) -> Piece:
    """Return a value; a large array of equal values as a product."""
    product = ""
    inner = value
    while isinstance(inner, list) and inner and all(each == inner[0] for each in inner):
        product = f" * {len(inner)}{']' if product else ''}{product}"
        inner = inner[0]
    sizes = product.count("*")
    if isinstance(inner, list) or len(lines(literal(value, before), 24, ",")) == 1 or not sizes:
        return literal(value, before)
    return f"{before}{'[' * sizes}{literal(inner)}]{product}"


def _imports(body: str) -> str:
    def used(*names: str) -> str:
        return ", ".join(name for name in names if re.search(rf"\b{name}\b", body))

    typing = used("Annotated", "Any", "Final", "Literal", "get_args")
    parts = ["import json"] if "json.loads(" in body else []
    parts += ["from collections.abc import Sequence"]
    parts += [f"from typing import {typing}"] if typing else []
    parts += ["", "import numpy as np"]
    parts += [f"from pydantic import {used('BaseModel', 'ConfigDict', 'Field', 'field_validator')}"]
    parts += [""]
    parts += ["from service.core.errors import Refused"] if "raise Refused(" in body else []
    parts += [f"from service.core.tensors import {used('Array', 'Tensors')}"]
    return "\n".join(parts) + "\n"


def _listable(values: Sequence[object]) -> bool:
    """Return whether values can be the alternatives of a Literal."""
    return 0 < len(values) <= _MANY_VALUES and all(isinstance(each, str | int) for each in values)


def _fits(values: Sequence[object], datatype: str) -> bool:
    """Return whether values can stand in a tensor."""
    return all(isinstance(each, str) for each in values) == (datatype == "BYTES")


def _answers(spec: TensorSpec, classes: Sequence[object]) -> bool:
    """Return whether an output has one of the classes in each row."""
    if not classes or spec.shape != (-1,):
        return False
    if spec.datatype == "BYTES":
        return all(isinstance(each, str) for each in classes)
    return spec.datatype[0] in "IUB" and all(isinstance(each, int) for each in classes)


def _python(datatype: str) -> str:
    """Return the type of an element in Python."""
    if datatype in ("BOOL", "BYTES"):
        return "bool" if datatype == "BOOL" else "str"
    return _PYTHON[datatype[0]]


def _dtype(datatype: str) -> str:
    if datatype in _NUMPY:
        return _NUMPY[datatype]
    return "np." + datatype.lower().replace("fp", "float")


def _lengths(size: int) -> str:
    return "min_length=1" if size == -1 else f"min_length={size}, max_length={size}"
