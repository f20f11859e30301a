"""What is loaded is what was checked, on every runtime: each file of an artifact, and for good."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

EXAMPLE = """
import json
from pathlib import Path
import numpy as np
from service.core import manifest

described = manifest.read(Path("models"))
artifact = Path("models") / described.file
inputs, outputs = described.input_specs(), described.output_specs()
parameters = described.parameters
rows = {inputs[0].name: np.array([[5.1, 3.5, 1.4, 0.2]], inputs[0].dtype)}
"""
ONNX = """
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from service.core.tensors import TensorSpec

artifact = Path("odd/table.onnx")
inputs = (TensorSpec("row", "INT64", (-1,)),)
outputs = (TensorSpec("found", "FP32", (-1, 500)),)
parameters = {}
rows = {"row": np.array([3])}
table = np.random.default_rng(1).random((400, 500), np.float32)
bias = np.arange(500, dtype=np.float32)

def save(**options):
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "row"], ["gathered"]),
            helper.make_node("Add", ["gathered", "bias"], ["found"]),
        ],
        "table",
        [helper.make_tensor_value_info("row", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["rows", 500])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(bias, "bias")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, {"location": "Bonn"})
    artifact.parent.mkdir(exist_ok=True)
    onnx.save(model, artifact, save_as_external_data=True, size_threshold=10, **options)
"""
ONE_FILE = ONNX + 'Path("odd/parts").mkdir(parents=True); save(location="parts/weights.bin")\n'
FILE_OF_EACH = ONNX + "save(all_tensors_to_one_file=False)\n"
IR = """
from pathlib import Path
import numpy as np
import openvino
from openvino import opset13 as ops
from service.core.tensors import TensorSpec

artifact = Path("odd/table.xml")
table = np.random.default_rng(1).random((400, 500), np.float32)
row = ops.parameter([-1], np.int64)
found = ops.gather(table, row, ops.constant(np.int64(0)))
row.output(0).set_names({"row"})
found.output(0).set_names({"found"})
openvino.save_model(openvino.Model([found], [row]), artifact, compress_to_fp16=False)
inputs = (TensorSpec("row", "INT64", (-1,)),)
outputs = (TensorSpec("found", "FP32", (-1, 500)),)
parameters = {}
rows = {"row": np.array([3])}
"""
SHARDS = """
from pathlib import Path
import numpy as np
from service.core import manifest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

described = manifest.read(Path("models"))
example = Path("models") / described.file
artifact = Path("odd/shards")
AutoTokenizer.from_pretrained(example).save_pretrained(artifact)
classifier = AutoModelForSequenceClassification.from_pretrained(example)
classifier.save_pretrained(artifact, max_shard_size="20KB")
assert len(list(artifact.glob("*.safetensors"))) > 2
inputs, outputs, parameters = described.input_specs(), described.output_specs(), {}
rows = {"text": np.array([b"The film was good."], dtype=object)}
"""
MODULE = """
from pathlib import Path
import numpy as np
import torch
from service.core.tensors import TensorSpec

class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(400, 500)

    def forward(self, row):
        return self.table(row)

Path("odd").mkdir(exist_ok=True)
inputs = (TensorSpec("row", "INT64", (-1,)),)
outputs = (TensorSpec("found", "FP32", (-1, 500)),)
parameters = {"module": "artifact:Table"}
rows = {"row": np.array([3])}
"""
PROGRAM = (
    MODULE
    + """
artifact = Path("odd/table.pt2")
size = torch.export.Dim("size")
example = (torch.tensor([1, 2]),)
torch.export.save(torch.export.export(Table(), example, dynamic_shapes=({0: size},)), artifact)
"""
)
SAFETENSORS = (
    MODULE
    + """
from safetensors.torch import save_model

artifact = Path("odd/table.safetensors")
if not artifact.exists():
    save_model(Table(), str(artifact))
"""
)
CASES = [
    ("onnxruntime", ONE_FILE, {"table.onnx", "parts/weights.bin"}),
    ("onnxruntime", FILE_OF_EACH, {"table.onnx", "table", "bias"}),
    ("openvino", ONE_FILE, {"table.onnx", "parts/weights.bin"}),
    ("openvino", IR, {"table.xml", "table.bin"}),
    ("transformers", SHARDS, {"shards/config.json", "shards/model.safetensors.index.json"}),
    ("pytorch", PROGRAM, {"table.pt2"}),
    ("pytorch", SAFETENSORS, {"table.safetensors"}),
    ("catboost", EXAMPLE, {"iris.cbm"}),
    ("lightgbm", EXAMPLE, {"iris.txt"}),
    ("python", EXAMPLE, {"iris.npz"}),
    ("scikit-learn", EXAMPLE, {"iris.skops"}),
    ("xgboost", EXAMPLE, {"iris.ubj"}),
]
PROBE = """
import json
import numpy as np
from artifact import artifact, inputs, outputs, parameters, rows
from service import runtime
from service.core import manifest

folder = artifact.parent
described = manifest.describe(
    artifact, name="odd", version="1", runtime=runtime.RUNTIME,
    inputs=inputs, outputs=outputs, parameters=parameters,
)

def refusal(described):
    try:
        manifest.verify(described, folder, runtime.RUNTIME)
    except manifest.ArtifactError as error:
        return str(error)
    return ""

assert refusal(described) == ""
model = runtime.load(artifact, described, threads=1, device="cpu")
before = model.run(rows)
garbage = [b"\\xff" * (folder / name).stat().st_size for name in 20 * list(described.sha256)]
found = {}
for name, digest in described.sha256.items():
    content = (folder / name).read_bytes()
    with (folder / name).open("r+b") as file:
        file.write(bytes(len(content)))
    after = model.run(rows)
    altered = refusal(described)
    with (folder / name).open("r+b") as file:
        file.write(content)
    without = {other: digests for other, digests in described.sha256.items() if other != name}
    unlisted = refusal(described.model_copy(update={"sha256": without}))
    (folder / name).unlink()
    missing = refusal(described)
    (folder / name).write_bytes(content)
    found[name] = {
        "same": all(np.array_equal(before[output], after[output]) for output in before),
        "altered": altered, "unlisted": unlisted, "missing": missing,
    }
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("runtime", "artifact", "files"), CASES, ids=[f"{case[0]}-{min(case[2])}" for case in CASES]
)
def test_every_file_is_checked_and_what_is_loaded_stays(
    runtime: str,
    artifact: str,
    files: set[str],
    bench: Workbench,
    copy_of: Callable[[Variant], Path],
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    (project / "odd").mkdir(exist_ok=True)
    found = json.loads(probe(project, bench, artifact, PROBE).splitlines()[-1])
    assert files <= found.keys()
    for name, answers in found.items():
        assert answers["same"], f"{name} was overwritten, and the answers are others"
        assert "altered" in answers["altered"] or "missing" in answers["altered"], name
        assert "not in the manifest" in answers["unlisted"], name
        assert "missing" in answers["missing"], name


REFUSED = """
from service import runtime
from service.core.manifest import ArtifactError

try:
    runtime.inspect(artifact, {})
except ArtifactError as error:
    print(error)
else:
    print("loaded")
"""
MOVE = """
model = onnx.load(artifact, load_external_data=False)
for tensor in model.graph.initializer:
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = LOCATION
artifact.write_bytes(model.SerializeToString())
"""
SUBGRAPH = """
model = onnx.load(artifact, load_external_data=False)
inner = helper.make_graph(
    list(model.graph.node), "inner", [], list(model.graph.output), list(model.graph.initializer)
)
outer = helper.make_graph(
    [helper.make_node("If", ["yes"], ["found"], then_branch=inner, else_branch=inner)],
    "outer",
    list(model.graph.input),
    list(model.graph.output),
    [numpy_helper.from_array(np.array(True), "yes")],
)
opsets = [helper.make_opsetid("", 17)]
artifact.write_bytes(
    helper.make_model(outer, opset_imports=opsets, ir_version=9).SerializeToString()
)
"""
REORDERED = """
content = artifact.read_bytes()
key, value = b"\\x0a\\x08location", b"\\x12\\x11parts/weights.bin"
assert key + value in content
artifact.write_bytes(content.replace(key + value, value + key))
"""


@pytest.mark.parametrize("location", ["../weights.bin", "/dev/null", "parts/nowhere.bin"])
def test_onnx_weights_elsewhere_are_refused(
    location: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", "uvicorn"))
    (project / "weights.bin").write_bytes(bytes(1 << 20))
    artifact = ONE_FILE + MOVE.replace("LOCATION", repr(location))
    printed = probe(project, bench, artifact, "from artifact import artifact\n" + REFUSED)
    assert location in printed
    assert "missing" in printed or "outside" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("artifact", [SUBGRAPH, REORDERED], ids=["in a subgraph", "unseen"])
def test_onnx_weights_that_would_be_mapped_or_not_checked_are_refused(
    artifact: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "onnxruntime", "uvicorn"))
    inspect = "from artifact import artifact\n" + REFUSED
    printed = probe(project, bench, ONE_FILE + artifact, inspect)
    assert "cannot be loaded" in printed
    assert "a subgraph has external data" in printed
    assert printed.count("\n") == 1


OUTSIDE = """
import json
index = artifact / "model.safetensors.index.json"
content = json.loads(index.read_bytes())
moved = sorted(content["weight_map"].values())[0]
(artifact / moved).rename(artifact.parent / moved)
content["weight_map"] = {
    weight: f"../{shard}" if shard == moved else shard
    for weight, shard in content["weight_map"].items()
}
index.write_text(json.dumps(content))
described = manifest.describe(
    artifact, name="odd", version="1", runtime="transformers",
    inputs=inputs, outputs=outputs, parameters=parameters,
)
"""
LOADED = REFUSED.replace(
    "runtime.inspect(artifact, {})", 'runtime.load(artifact, described, threads=1, device="cpu")'
)


def test_shards_outside_the_folder_are_refused(
    bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "transformers", "uvicorn"))
    load = "from artifact import artifact, described\n" + LOADED
    printed = probe(project, bench, SHARDS + OUTSIDE, load)
    assert "outside the folder" in printed.splitlines()[-1]


def probe(project: Path, bench: Workbench, artifact: str, script: str) -> str:
    """Make an artifact with the module ``artifact``, run a script that imports it, as it is."""
    (project / "artifact.py").write_text(artifact, encoding="utf-8")
    (project / "probe.py").write_text(script, encoding="utf-8")
    return bench.run([bench.python, "probe.py"], project, timeout=120)
