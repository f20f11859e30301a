"""The models that are served: three made from seeds, or one of the user's own."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inferplate.errors import InferplateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFERENCE: Final = ("tabular", "mlp", "embed")
TYPED_INPUT: Final = "features"
TYPED_OUTPUT: Final = "scores"
"""The tensors of the reference models, which ``benchmarks/service/predict.py`` knows by name."""

_FREE_DIMENSION: Final = 16
"""What stands for a dimension that a model leaves open, beyond the rows."""
_SEED: Final = 20_26
_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
_NUMPY: Final = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{name: name.lower() for name in _DATATYPES.values() if "INT" in name},
}


@dataclass(frozen=True)
class Input:
    """An input of a model; ``shape`` is that of one row, without the axis of the rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """An ONNX model, and what it is asked.

    ``fixed_rows``: the rows of every request, where the model does not leave them open.
    """

    name: str
    path: Path
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    fixed_rows: int | None

    @property
    def is_vector(self) -> bool:
        """Return whether an instance is one flat list of floats."""
        return (
            len(self.inputs) == 1
            and self.inputs[0].datatype in ("FP32", "FP64")
            and len(self.inputs[0].shape) == 1
        )

    @property
    def is_typed(self) -> bool:
        """Return whether the benchmark's own ``predict.py`` describes its instances."""
        return (
            self.is_vector
            and self.inputs[0].name == TYPED_INPUT
            and self.outputs == (TYPED_OUTPUT,)
        )

    def batch(self, rows: int) -> "dict[str, NDArray[Any]]":
        """Make inputs of some rows, the same on every call."""
        return {tensor.name: _values(tensor, rows) for tensor in self.inputs}

    def answers(self, rows: int) -> "dict[str, NDArray[Any]]":
        """Run the model here on `batch` and return its outputs by name.

        Raises:
            InferplateError: it cannot run on generated inputs.
        """
        try:
            found = session(self.path).run(list(self.outputs), self.batch(rows))
        except Exception as error:
            cause = str(error).partition("\n")[0]
            raise InferplateError(
                f"{self.path} does not run on inputs made from its signature: {cause}"
            ) from None
        return dict(zip(self.outputs, found, strict=True))


def reference(name: str, folder: Path) -> Model:
    """Make one of the `REFERENCE` models in a folder; a seed makes it the same everywhere."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(_BUILDERS[name](np.random.default_rng(_SEED)), path)
    return load(path)


def load(path: Path) -> Model:
    """Read the signature of an ONNX model.

    Raises:
        InferplateError: it is not an ONNX model, or has an input that cannot be made up.
    """
    if not path.is_file():
        raise InferplateError(f"{path} does not exist")
    inputs = []
    sizes = set()
    running = session(path)
    for node in running.get_inputs():
        datatype = _DATATYPES.get(node.type)
        if datatype is None or not node.shape:
            raise InferplateError(
                f"{path}: inputs like '{node.name}' ({node.type} {node.shape}) cannot be made up"
            )
        rows, *tail = (size if isinstance(size, int) and size > 0 else None for size in node.shape)
        sizes.add(rows)
        inputs.append(Input(node.name, datatype, tuple(size or _FREE_DIMENSION for size in tail)))
    return Model(
        name=re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-") or "model",
        path=path,
        inputs=tuple(inputs),
        outputs=tuple(node.name for node in running.get_outputs()),
        fixed_rows=next((size for size in sizes if size), None),
    )


def session(path: Path) -> Any:
    """Open an ONNX Runtime session with one thread.

    Raises:
        InferplateError: the file is not an ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        cause = str(error).partition("\n")[0]
        raise InferplateError(f"cannot load {path}: {cause}") from None


def _values(tensor: Input, rows: int) -> "NDArray[Any]":
    random = np.random.default_rng(_SEED)
    shape = (rows, *tensor.shape)
    if tensor.datatype.startswith("FP"):
        # Few digits, as measurements have: their JSON is as long as real ones.
        return random.normal(size=shape).round(4).astype(_NUMPY[tensor.datatype])
    return random.integers(0, 2, size=shape).astype(_NUMPY[tensor.datatype])


def _tabular(random: np.random.Generator) -> onnx.ModelProto:
    """Boosted trees: 30 floats to the probabilities of two classes."""
    trees, depth, width = 150, 6, 30
    inner, total = 2**depth - 1, 2 ** (depth + 1) - 1
    nodes = {
        "nodes_treeids": np.repeat(np.arange(trees), total),
        "nodes_nodeids": np.tile(np.arange(total), trees),
        "nodes_featureids": random.integers(0, width, trees * total),
        "nodes_values": random.normal(size=trees * total).astype(np.float32),
    }
    is_inner = nodes["nodes_nodeids"] < inner
    children = {
        "nodes_truenodeids": np.where(is_inner, 2 * nodes["nodes_nodeids"] + 1, 0),
        "nodes_falsenodeids": np.where(is_inner, 2 * nodes["nodes_nodeids"] + 2, 0),
    }
    leaves = trees * (total - inner)
    classes = {
        "class_treeids": np.repeat(np.arange(trees), total - inner),
        "class_nodeids": np.tile(np.arange(inner, total), trees),
        "class_ids": np.zeros(leaves, dtype=int),
        "class_weights": (random.normal(size=leaves) / 10).astype(np.float32),
    }
    node = helper.make_node(
        "TreeEnsembleClassifier",
        [TYPED_INPUT],
        ["label", TYPED_OUTPUT],
        domain="ai.onnx.ml",
        nodes_modes=["BRANCH_LEQ" if branch else "LEAF" for branch in is_inner],
        classlabels_int64s=[0, 1],
        post_transform="LOGISTIC",
        **{name: array.tolist() for name, array in (nodes | children | classes).items()},
    )
    return _model([node], [], width, 2)


def _mlp(random: np.random.Generator) -> onnx.ModelProto:
    """A perceptron: 784 floats, two hidden layers of 512, ten classes."""
    sizes = (784, 512, 512, 10)
    nodes, weights = [], []
    last = TYPED_INPUT
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        weights += [
            _weight(random, f"weight{number}", outputs, inputs),
            _weight(random, f"bias{number}", outputs),
        ]
        terms = [last, f"weight{number}", f"bias{number}"]
        nodes.append(helper.make_node("Gemm", terms, [f"sum{number}"], transB=1))
        last = f"sum{number}"
        if outputs != sizes[-1]:
            nodes.append(helper.make_node("Relu", [last], [f"active{number}"]))
            last = f"active{number}"
    nodes.append(helper.make_node("Softmax", [last], [TYPED_OUTPUT], axis=-1))
    return _model(nodes, weights, sizes[0], sizes[-1])


def _embed(random: np.random.Generator) -> onnx.ModelProto:
    """A small transformer encoder: a signal of 512 floats, cut into 64 patches, to 256 floats."""
    patches, patch, width, heads, layers = 64, 8, 256, 4, 5
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, *values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def weight(name: str, *shape: int) -> str:
        weights.append(_weight(random, name, *shape))
        return name

    def apply(operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(tensor: str, name: str, inputs: int, outputs: int) -> str:
        product = apply("MatMul", tensor, weight(f"{name}.weight", inputs, outputs))
        return apply("Add", product, weight(f"{name}.bias", outputs))

    def normalise(tensor: str, name: str) -> str:
        scale = weight(f"{name}.scale", width)
        return apply("LayerNormalization", tensor, scale, weight(f"{name}.shift", width))

    def split(tensor: str, order: list[int]) -> str:
        return apply("Transpose", apply("Reshape", tensor, "to_heads"), perm=order)

    constant("to_patches", 0, patches, patch)
    constant("to_heads", 0, patches, heads, width // heads)
    constant("to_width", 0, patches, width)
    root = numpy_helper.from_array(np.array((width // heads) ** -0.5, dtype=np.float32), "root")
    weights.append(root)
    hidden = linear(apply("Reshape", TYPED_INPUT, "to_patches"), "patch", patch, width)
    hidden = apply("Add", hidden, weight("position", patches, width))
    for layer in range(layers):
        normal = normalise(hidden, f"{layer}.attention.norm")
        query = split(linear(normal, f"{layer}.query", width, width), [0, 2, 1, 3])
        key = split(linear(normal, f"{layer}.key", width, width), [0, 2, 3, 1])
        value = split(linear(normal, f"{layer}.value", width, width), [0, 2, 1, 3])
        scores = apply("Softmax", apply("Mul", apply("MatMul", query, key), "root"), axis=-1)
        mixed = apply("Transpose", apply("MatMul", scores, value), perm=[0, 2, 1, 3])
        mixed = apply("Reshape", mixed, "to_width")
        hidden = apply("Add", hidden, linear(mixed, f"{layer}.mix", width, width))
        normal = normalise(hidden, f"{layer}.feed.norm")
        wide = apply("Relu", linear(normal, f"{layer}.wide", width, 4 * width))
        hidden = apply("Add", hidden, linear(wide, f"{layer}.narrow", 4 * width, width))
    nodes.append(
        helper.make_node("ReduceMean", [hidden, constant("axis", 1)], [TYPED_OUTPUT], keepdims=0)
    )
    return _model(nodes, weights, patches * patch, width)


_BUILDERS: Final = {"tabular": _tabular, "mlp": _mlp, "embed": _embed}


def _weight(random: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    scale = shape[0] ** -0.5
    return numpy_helper.from_array((random.normal(size=shape) * scale).astype(np.float32), name)


def _model(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], inputs: int, outputs: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info(TYPED_INPUT, TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info(TYPED_OUTPUT, TensorProto.FLOAT, ["rows", outputs])],
        weights,
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=9)
    onnx.checker.check_model(model)
    return model
