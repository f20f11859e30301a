"""Every model runtime refuses what it cannot serve, in one line, before a request comes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS

from inferplate.matrix import Variant
from inferplate.workbench import Workbench

RUNTIMES = sorted({variant.runtime for variant in ALL_VARIANTS})
PROBE = """
import json, sys
from pathlib import Path
from service import runtime
from service.core import manifest
from service.core.manifest import ArtifactError

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
    "inputs": [spec.shape for spec in inspected.inputs],
    "outputs": [spec.shape for spec in inspected.outputs],
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
    assert found["right"] == ""
    assert "[-1, 77, 3]" in found["wrong"]
    assert "'abacus'" in found["device"]
    for refusal in ("wrong", "load", "cut", "inspect", "device"):
        assert found[refusal]
        assert "\n" not in found[refusal]
