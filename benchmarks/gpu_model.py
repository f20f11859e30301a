"""Writes a network for images with weights from a seed into ``models``, for ``gpu.py``.

    python gpu_model.py onnxruntime|pytorch

Four convolutions with stride two, a mean over what is left, and 1000 scores: about 1.4 billion
multiplications for an image of 3x224x224. It runs in an emitted project.
"""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from service.core import manifest
from service.core.tensors import TensorSpec

CHANNELS: Final = (3, 64, 128, 256, 512)
CLASSES: Final = 1000
SIZE: Final = 224


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(20_26)
    found = {
        f"kernel{step}": random.standard_normal((after, before, 3, 3)) / np.sqrt(9 * before)
        for step, (before, after) in enumerate(pairwise(CHANNELS))
    }
    found["dense"] = random.standard_normal((CHANNELS[-1], CLASSES)) / np.sqrt(CHANNELS[-1])
    return {name: value.astype(np.float32) for name, value in found.items()}


def write_onnx(folder: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    made = weights()
    nodes, last = [], "image"
    for step in range(len(CHANNELS) - 1):
        convolution = helper.make_node(
            "Conv", [last, f"kernel{step}"], [f"map{step}"], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        nodes += [convolution, helper.make_node("Relu", [f"map{step}"], [f"relu{step}"])]
        last = f"relu{step}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in made.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "image.onnx"
    onnx.save(model, path)
    return path


def write_program(folder: Path) -> Path:
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in weights().items():
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(value)))

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            for step in range(len(CHANNELS) - 1):
                kernel = self.get_parameter(f"kernel{step}")
                image = torch.relu(torch.conv2d(image, kernel, stride=2, padding=1))
            return {"scores": image.mean(dim=(2, 3)) @ self.get_parameter("dense")}

    rows = torch.export.Dim("rows", min=1, max=1024)
    example = (torch.zeros(2, 3, SIZE, SIZE),)
    program = torch.export.export(Network().eval(), example, dynamic_shapes=({0: rows},))
    path = folder / "image.pt2"
    torch.export.save(program, path)
    return path


def main(runtime: str) -> None:
    folder = Path("models")
    folder.mkdir(exist_ok=True)
    path = {"onnxruntime": write_onnx, "pytorch": write_program}[runtime](folder)
    described = manifest.describe(
        path,
        name="image",
        version="1",
        runtime=runtime,
        inputs=(TensorSpec("image", "FP32", (-1, 3, SIZE, SIZE)),),
        outputs=(TensorSpec("scores", "FP32", (-1, CLASSES)),),
    )
    described.write(folder)


if __name__ == "__main__":
    main(sys.argv[1])
