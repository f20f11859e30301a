"""Artifacts whose code would run while they are loaded: it does not, and they are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

COMMON = """
import json, os, pickle, shutil
from pathlib import Path
import numpy as np
from service import runtime
from service.core import manifest
from service.core.manifest import ArtifactError

marker = Path("it-ran").absolute()

class Hostile:
    def __reduce__(self):
        return (Path.touch, (marker,))

def refused(artifact, parameters=None, described=None):
    described = described or manifest.read(Path("models"))
    update = {"file": artifact.name, "parameters": parameters or {}}
    described = described.model_copy(update=update)
    for call in (
        lambda: runtime.inspect(artifact, described.parameters),
        lambda: runtime.load(artifact, described, threads=1, device="cpu"),
    ):
        try:
            call()
        except ArtifactError as error:
            message = str(error)
        else:
            message = ""
        assert not marker.exists(), "code of the artifact ran"
        yield message
"""
SKOPS = (
    COMMON
    + """
from skops.io import dump, get_untrusted_types
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
import odd

rows = np.arange(40.0).reshape(10, 4)
steps = make_pipeline(odd.Own(), LogisticRegression()).fit(rows, [0, 1] * 5)
artifact = Path("own.skops")
dump(steps, artifact)
names = get_untrusted_types(file=artifact)
assert "odd.Own" in names and "odd.Other" in names, names
for trusted in ([], ["odd.Other"], ["odd.Own"], ["odd"], ["numpy.ndarray"]):
    for message in refused(artifact, {"trusted": trusted}):
        assert "does not trust" in message or "do not trust" in message, message
        for name in set(names) - set(trusted):
            assert name in message
assert list(refused(artifact, {"trusted": names})) == ["", ""]
pickled = Path("pickled.skops")
pickled.write_bytes(pickle.dumps(Hostile()))
assert all(refused(pickled, {"trusted": names}))
"""
)
OWN = """
from sklearn.base import BaseEstimator, TransformerMixin

class Other:
    pass

class Own(TransformerMixin, BaseEstimator):
    def fit(self, rows, labels=None):
        self.n_features_in_ = rows.shape[1]
        self.other_ = Other()
        return self

    def transform(self, rows):
        return rows
"""
NUMPY = (
    COMMON
    + """
artifact = Path("hostile.npz")
np.savez(artifact, weights=np.array([Hostile()], dtype=object), bias=np.zeros(1, np.float32))
assert all(refused(artifact))
assert not marker.exists()
"""
)
TRANSFORMERS = (
    COMMON
    + """
described = manifest.read(Path("models"))
given = Path("models") / described.file
code = '''
from pathlib import Path
Path(MARKER).touch()
from transformers import BertConfig as Config, BertForSequenceClassification as Classifier
'''.replace("MARKER", repr(str(marker)))
folder = Path("code").absolute()
shutil.copytree(given, folder)
(folder / "own.py").write_text(code)
config = json.loads((folder / "config.json").read_bytes())
own = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Classifier"}
for kind in (config["model_type"], "unheard_of"):
    changed = {**config, "model_type": kind, "auto_map": own}
    (folder / "config.json").write_text(json.dumps(changed))
    list(refused(folder))
assert all(refused(folder))  # only its own code knows this kind of model

import torch

folder = Path("pickle").absolute()
shutil.copytree(given, folder)
for weights in folder.glob("*.safetensors"):
    from safetensors.torch import load_file
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
assert list(refused(folder))[1]
"""
)
CASES = {
    "types in skops": ("scikit-learn", SKOPS),
    "pickles in NumPy": ("python", NUMPY),
    "code and pickles in a folder of Transformers": ("transformers", TRANSFORMERS),
}


@pytest.mark.parametrize(("runtime", "script"), CASES.values(), ids=list(CASES))
def test_code_of_an_artifact_does_not_run(
    runtime: str, script: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    (project / "odd.py").write_text(OWN, encoding="utf-8")
    (project / "trust.py").write_text(script, encoding="utf-8")
    bench.run([bench.python, "trust.py"], project, timeout=180)
