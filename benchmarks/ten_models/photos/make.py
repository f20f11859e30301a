"""A classifier of photos in ONNX, asked with JPEGs of different sizes."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

LABELS = ("cat", "dog", "none")
nodes = [
    helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
    helper.make_node("Flatten", ["mean"], ["scores"]),
    helper.make_node("Softmax", ["scores"], ["probabilities"]),
]
pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 224, 224])
output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])
graph = helper.make_graph(nodes, "animals", [pixels], [output])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
Path("models").mkdir()
onnx.save(model, "models/animals.onnx")


def photo(color: str, size: tuple[int, int]) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, color).save(written, "JPEG")
    return written.getvalue()


photos = [photo("red", (300, 260)), photo("lime", (240, 320)), photo("navy", (224, 224))]
rows = [
    np.asarray(Image.open(io.BytesIO(each)).resize((224, 224)), np.float32).transpose(2, 0, 1)
    for each in photos
]
session = onnxruntime.InferenceSession("models/animals.onnx")
probabilities = session.run(None, {"pixels": np.stack(rows) / 255})[0].tolist()
encoded = [base64.b64encode(each).decode() for each in photos]
expected = {
    "instances": [{"image": each} for each in encoded],
    "predictions": [
        {"label": LABELS[row.index(max(row))], "probability": max(row)} for row in probabilities
    ],
    "tensors": {
        "inputs": [{"name": "images", "datatype": "BYTES", "data": encoded, "type": "base64"}],
        "output": probabilities,
    },
}
Path("expected.json").write_text(json.dumps(expected))
