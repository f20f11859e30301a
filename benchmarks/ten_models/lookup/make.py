"""A model whose features are partly in a database: what a customer is going to spend."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = np.array([[0.5], [2.0], [0.25]], np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["features", "weights"], ["value"])],
    "customers",
    [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1])],
    [numpy_helper.from_array(weights, "weights")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
Path("models").mkdir()
onnx.save(model, "models/customers.onnx")

customers = {1: (3, 20.0), 2: (10, 250.0)}
with closing(sqlite3.connect("customers.db")) as store, store:
    store.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, visits INTEGER, spent REAL)")
    rows = [(number, *known) for number, known in customers.items()]
    store.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows)

instances = [{"customer": 1, "basket": 20.0}, {"customer": 2, "basket": 0.5}]
values = [
    float((np.array([each["basket"], *customers[int(each["customer"])]]) @ weights)[0])
    for each in instances
]
expected = {
    "instances": instances,
    "predictions": [{"value": value} for value in values],
    "tensors": {
        "inputs": [
            {"name": "customer", "datatype": "INT64", "data": [1, 2]},
            {"name": "basket", "datatype": "FP64", "data": [20.0, 0.5]},
        ],
        "output": values,
    },
}
Path("expected.json").write_text(json.dumps(expected))
