"""A detector in ONNX: a picture in, as many boxes out as it has bright squares."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

CELL = 8
constants = {
    "half": np.array(0.5, np.float32),
    "cell": np.array(CELL, np.float32),
    "from": np.array([2]),
    "to": np.array([4]),
    "axis": np.array([1]),
}
nodes = [
    helper.make_node("AveragePool", ["image"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
    helper.make_node("Greater", ["grid", "half"], ["bright"]),
    helper.make_node("NonZero", ["bright"], ["places"]),
    helper.make_node("Transpose", ["places"], ["cells"], perm=[1, 0]),
    helper.make_node("GatherND", ["grid", "cells"], ["scores"]),
    helper.make_node("Slice", ["cells", "from", "to", "axis"], ["corners"]),
    helper.make_node("Cast", ["corners"], ["floats"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["floats", "cell"], ["starts"]),
    helper.make_node("Add", ["starts", "cell"], ["ends"]),
    helper.make_node("Concat", ["starts", "ends"], ["boxes"], axis=1),
]
graph = helper.make_graph(
    nodes,
    "detector",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 64, 64])],
    [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["num_dets", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["num_dets"]),
    ],
    [numpy_helper.from_array(array, name) for name, array in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
Path("models").mkdir()
onnx.save(model, "models/detector.onnx")


def picture(*cells: tuple[int, int]) -> bytes:
    image = Image.new("L", (64, 64), 20)
    for left, top in cells:
        corners = (CELL * left, CELL * top, CELL * left + 7, CELL * top + 7)
        ImageDraw.Draw(image).rectangle(corners, fill=220)
    written = io.BytesIO()
    image.save(written, "JPEG", quality=95)
    return written.getvalue()


pictures = [picture((1, 2), (5, 6)), picture(), picture((0, 0), (3, 3), (7, 1))]
session = onnxruntime.InferenceSession("models/detector.onnx")
found = []
for each in pictures:
    pixels = np.asarray(Image.open(io.BytesIO(each)), np.float32)[None, None] / 255
    boxes, scores = session.run(["boxes", "scores"], {"image": pixels})
    found.append((boxes.tolist(), scores.tolist()))
encoded = [base64.b64encode(each).decode() for each in pictures]
expected = {
    "instances": [{"image": each} for each in encoded],
    "predictions": [{"boxes": boxes, "scores": scores} for boxes, scores in found],
    "tensors": {
        "inputs": [{"name": "image", "datatype": "BYTES", "data": encoded[:1], "type": "base64"}],
        "output": found[0][0],
    },
}
Path("expected.json").write_text(json.dumps(expected))
