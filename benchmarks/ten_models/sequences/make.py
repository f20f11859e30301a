"""A classifier of sequences of any length, in ONNX."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
weights = {
    "words": random.normal(size=(1000, 8)).astype(np.float32),
    "classes": random.normal(size=(8, 3)).astype(np.float32),
}
nodes = [
    helper.make_node("Gather", ["words", "ids"], ["vectors"]),
    helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
    helper.make_node("MatMul", ["mean", "classes"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["scores"]),
]
graph = helper.make_graph(
    nodes,
    "sequences",
    [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "length"])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
    [numpy_helper.from_array(array, name) for name, array in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
Path("models").mkdir()
onnx.save(model, "models/sequences.onnx")

sequences = [[5, 17, 900], [3], [1, 2, 3, 4, 5, 6, 7], [8, 9, 10]]
session = onnxruntime.InferenceSession("models/sequences.onnx")
scores = [session.run(None, {"ids": np.array([ids])})[0][0].tolist() for ids in sequences]
expected = {
    "instances": [{"ids": ids} for ids in sequences],
    "predictions": [{"scores": row} for row in scores],
    "tensors": {
        "inputs": [{"name": "ids", "datatype": "INT64", "data": sequences[2:3]}],
        "output": scores[2:3],
    },
}
Path("expected.json").write_text(json.dumps(expected))
