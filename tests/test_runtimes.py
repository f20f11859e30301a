"""Every model runtime refuses what it cannot serve, in one line, before a request comes."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

RUNTIMES = sorted({variant.runtime for variant in ALL_VARIANTS})
PROBE = """
import json, sys
from pathlib import Path
from service import runtime
from service.core import manifest
from service.core.manifest import ArtifactError

LIBRARIES = {"lightgbm", "onnxruntime", "openvino", "sklearn", "torch", "transformers", "xgboost"}
imported = sorted(LIBRARIES & sys.modules.keys())

def attempt(call):
    try:
        call()
    except ArtifactError as error:
        return str(error)
    return ""

folder = Path("models")
described = manifest.read(folder)
artifact = manifest.verify(described, folder, runtime.RUNTIME)
model = runtime.load(artifact, described, threads=1, device="cpu")
inspected = runtime.inspect(artifact, described.parameters)
tensor = described.inputs[0].model_copy(update={"shape": [-1, 77, 3]})
wrong = described.model_copy(update={"inputs": [tensor]})
broken = Path(sys.argv[1])
cut = Path("cut").with_suffix(artifact.suffix)
content = artifact.read_bytes() if artifact.is_file() else b""
cut.write_bytes(content[: len(content) // 2])
cut_manifest = described.model_copy(update={"file": cut.name})
broken_manifest = described.model_copy(update={"file": broken.name})
print(json.dumps({
    "imported": imported,
    "inputs": [spec.shape for spec in inspected.inputs],
    "outputs": [spec.shape for spec in inspected.outputs],
    "pads_texts": model.signature.pads_texts,
    "right": attempt(lambda: manifest.check_signature(described, model.signature)),
    "wrong": attempt(lambda: manifest.check_signature(wrong, model.signature)),
    "load": attempt(lambda: runtime.load(broken, broken_manifest, threads=1, device="cpu")),
    "cut": attempt(lambda: runtime.load(cut, cut_manifest, threads=1, device="cpu")),
    "inspect": attempt(lambda: runtime.inspect(broken, described.parameters)),
    "device": attempt(lambda: runtime.load(artifact, described, threads=1, device="abacus")),
}))
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_cannot_be_served_is_refused(
    runtime: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    broken = project / "broken.bin"
    broken.write_bytes(b"this is not a model")
    (project / "probe.py").write_text(PROBE, encoding="utf-8")
    printed = bench.run([bench.python, "probe.py", broken.name], project, timeout=120)
    found = json.loads(printed.splitlines()[-1])
    manifest = json.loads((project / "models/manifest.json").read_text(encoding="utf-8"))
    for kind in ("inputs", "outputs"):
        shapes = [tensor["shape"] for tensor in manifest[kind]]
        assert found[kind][: len(shapes)] == shapes
    assert found["imported"] == []  # what `load` sets in the environment comes before
    assert found["pads_texts"] == (runtime == "transformers")
    assert found["right"] == ""
    assert "[-1, 77, 3]" in found["wrong"]
    assert "'abacus'" in found["device"]
    for refusal in ("wrong", "load", "cut", "inspect", "device"):
        assert found[refusal]
        assert "\n" not in found[refusal]
        assert "subgraph" not in found[refusal]  # that is for other models of ONNX Runtime


FOREIGN = """
from pathlib import Path

import torch

@torch.library.custom_op("foreign::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@twice.register_fake
def _(x):
    return torch.empty_like(x)

class Twice(torch.nn.Module):
    def forward(self, x):
        return torch.ops.foreign.twice(x)

Path("foreign").mkdir()
torch.export.save(torch.export.export(Twice(), (torch.ones(2, 4),)), "foreign/twice.pt2")
"""


def test_pytorch_program_with_an_operator_of_another_package_is_refused_in_one_line(
    bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", "pytorch", "uvicorn"))
    bench.run([bench.python, "-c", FOREIGN], project, timeout=120)
    command = [bench.python, "-m", "service", "manifest", "foreign/twice.pt2"]
    done = subprocess.run(
        [*command, "--name", "twice", "--version", "1"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "torch.ops.foreign.twice" in line
    assert "import the custom op" in line


LONG = {
    "pytorch": """
from types import SimpleNamespace

def make():
    raise ValueError("many words\\n" * 100)

sys.modules["own"] = SimpleNamespace(make=make)
artifact, parameters = Path("own.safetensors"), {"module": "own:make"}
artifact.write_bytes(b"any")
before = "'package.module:function': "
""",
    "transformers": """
artifact, parameters = Path("own"), {}
artifact.mkdir()
(artifact / "config.json").write_text(json.dumps({"model_type": "many words " * 100}))
before = "cannot be loaded: "
""",
}
READ = """
described = manifest.read(Path("models"))
described = described.model_copy(update={"file": artifact.name, "parameters": parameters})
try:
    runtime.load(artifact, described, threads=1, device="cpu")
except ArtifactError as error:
    print(json.dumps(str(error).partition(before)[2]))
"""


@pytest.mark.parametrize("runtime", LONG)
def test_a_long_text_of_the_library_is_cut(
    runtime: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    imports = PROBE.partition("\nLIBRARIES")[0]
    (project / "probe.py").write_text(imports + LONG[runtime] + READ, encoding="utf-8")
    printed = bench.run([bench.python, "probe.py"], project, timeout=120)
    cause = json.loads(printed.splitlines()[-1])
    assert len(cause) == 300
    assert "many words many words" in cause
