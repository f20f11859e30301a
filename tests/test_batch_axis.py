"""Real models whose first axis is a batch, and ones whose first axis is something else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Covers

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

ONNX = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper

def save(name, nodes, inputs, outputs, **constants):
    infos = [[h.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = h.make_graph(nodes, "g", *infos, weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, name + ".onnx")

x, y = ("x", T.FLOAT, ["N", 3]), ("y", T.FLOAT, ["M", 3])
save("rows", [h.make_node("Mul", ["x", "two"], ["y"])], [x], [y], two=np.float32(2))
save("detections", [
    h.make_node("Greater", ["x", "half"], ["m"]), h.make_node("NonZero", ["m"], ["i"]),
    h.make_node("Transpose", ["i"], ["y"], perm=[1, 0]),
], [x], [("y", T.INT64, ["num_dets", 2])], half=np.float32(0.5))
save("centred", [
    h.make_node("ReduceMean", ["x"], ["m"], axes=[0]), h.make_node("Sub", ["x", "m"], ["y"]),
], [x], [y])
save("pairs", [
    h.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), h.make_node("MatMul", ["d", "t"], ["y"]),
], [x, ("d", T.FLOAT, ["D", 3])], [("y", T.FLOAT, ["D", "Q"])])
save("time", [h.make_node("CumSum", ["x", "axis"], ["y"])], [x], [y], axis=np.int64(0))
save("constant", [
    h.make_node("Identity", ["x"], ["y"]), h.make_node("Identity", ["anchors"], ["a"]),
], [x], [y, ("a", T.FLOAT, ["A", 4])], anchors=np.ones((9, 4), np.float32))
save("image", [
    h.make_node("Conv", ["x", "w"], ["f"], kernel_shape=[5, 5]),
    h.make_node("GlobalAveragePool", ["f"], ["p"]), h.make_node("Flatten", ["p"], ["y"]),
], [("x", T.FLOAT, ["N", 3, "H", "W"])], [("y", T.FLOAT, ["N", 2])],
    w=np.linspace(-1, 1, 150, dtype=np.float32).reshape(2, 3, 5, 5))
"""

TORCH = """
import torch

N = torch.export.Dim("n", min=2, max=1000)

class Model(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)

def save(name, function, *inputs):
    shapes = (tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),)
    program = torch.export.export(Model(function), inputs, dynamic_shapes=shapes)
    torch.export.save(program, name + ".pt2")

x = torch.ones(4, 3)
save("rows", lambda x: x * 2, x)
save("detections", lambda x: torch.nonzero(x > 0.5), x)
save("centred", lambda x: x - x.mean(0), x)
save("pairs", lambda x, d: d @ x.T, x, torch.ones(5, 3))
save("time", lambda x: x.cumsum(0), x)
"""

PROBE = """
import asyncio, json, pathlib, subprocess, sys
import numpy as np
from service import runtime
from service.core.engine import Engine
from service.ops.settings import Settings

ASKED = [[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]] * 4

async def serve(file):
    folder = pathlib.Path("tried", file.stem)
    folder.mkdir(parents=True)
    file = file.rename(folder / file.name)
    describe = [sys.executable, "-m", "service", "manifest", file, "--name", "m", "--version", "1"]
    described = subprocess.run(describe, capture_output=True, text=True, check=True).stdout
    engine = Engine(Settings(model_dir=folder), runtime)
    await engine.start()
    inputs, outputs = engine.inputs, engine.outputs
    right = None
    if inputs[0].shape == (-1, 3):
        def tensors(row):
            rest = {spec.name: np.eye(3, dtype=np.float32) for spec in inputs[1:]}
            return {inputs[0].name: np.array([row], np.float32), **rest}
        alone = [(await engine.infer(tensors(row)))[outputs[0].name] for row in ASKED]
        beside = await asyncio.gather(*(engine.infer(tensors(row)) for row in ASKED))
        right = all(
            np.array_equal(one, other[outputs[0].name])
            for one, other in zip(alone, beside, strict=True)
        )
    await engine.close()
    said = "requests may share a batch" in described
    return {"batched": engine.batched, "described": said, "right": right}

async def main():
    files = sorted([*pathlib.Path().glob("*.onnx"), *pathlib.Path().glob("*.pt2")])
    print(json.dumps({file.stem: await serve(file) for file in files}))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "models"), [("onnxruntime", ONNX), ("openvino", ONNX), ("pytorch", TORCH)]
)
def test_requests_share_a_batch_where_the_first_axis_is_one(
    runtime: str,
    models: str,
    bench: Workbench,
    copy_of: Callable[[Variant], Path],
    covers: Covers,
) -> None:
    variant = Variant("fastapi", runtime, "uvicorn")
    covers("odd models: no row of another's request", variant, 3)
    project = copy_of(variant)
    (project / "make.py").write_text(models, encoding="utf-8")
    (project / "probe.py").write_text(PROBE, encoding="utf-8")
    bench.run([bench.python, "make.py"], project, timeout=120)
    printed = bench.run([bench.python, "probe.py"], project, timeout=240)
    found = json.loads(printed.splitlines()[-1])
    assert found.keys() >= {"rows", "detections", "centred", "pairs", "time"}
    for name, result in found.items():
        assert result["batched"] is (name in ("rows", "image")), name
        assert result["described"] is result["batched"], name
        assert result["right"] is (None if name == "image" else True), name
