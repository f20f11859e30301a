"""docs/which-runtime.md: its conversions and its files, as they stand there."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_first_predict import check_code

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.client import post_json
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

PAGE = (template_root() / "docs/which-runtime.md").read_text(encoding="utf-8")
EXPORT, JOBLIB = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CONVERSIONS = [line for line in PAGE.splitlines() if line.startswith("python -c ")]
(DESCRIBE,) = (line for line in PAGE.splitlines() if line.startswith("python -m service manifest"))
OVERRIDE = """
[[tool.mypy.overrides]]
module = ["joblib.*"]
ignore_missing_imports = true
"""
FITTED = """
import pickle
from pathlib import Path
import joblib, numpy as np
random = np.random.default_rng(0)
rows = random.uniform(0, 9, (90, 3)).astype(np.float32)
labels = np.where(rows[:, 0] > rows[:, 1], "long", "wide")
Path("models").mkdir(exist_ok=True)
"""
SCIKIT_LEARN = """
from sklearn.linear_model import LogisticRegression
joblib.dump(LogisticRegression().fit(rows, labels), "models/own.joblib")
"""
MODELS = {
    "own.skops": (
        "scikit-learn",
        "from sklearn.linear_model import LogisticRegression\n"
        "joblib.dump(LogisticRegression().fit(rows, labels), 'own.joblib')",
    ),
    "own.ubj": (
        "xgboost",
        "from xgboost import XGBClassifier\n"
        "joblib.dump(XGBClassifier(n_estimators=3).fit(rows, labels == 'long'), 'own.pkl')",
    ),
    "own.txt": (
        "lightgbm",
        "from lightgbm import LGBMClassifier\n"
        "model = LGBMClassifier(n_estimators=3, verbose=-1).fit(rows, labels)\n"
        "Path('own.pkl').write_bytes(pickle.dumps(model))",
    ),
    "own.cbm": (
        "catboost",
        "from catboost import CatBoostClassifier\n"
        "model = CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False)\n"
        "joblib.dump(model.fit(rows, labels), 'own.pkl')",
    ),
    "own.safetensors": (
        "pytorch",
        "import torch\ntorch.save(torch.nn.Linear(4, 3).state_dict(), 'own.pt')",
    ),
}
NETWORK = "import torch\n\n\ndef make() -> torch.nn.Module:\n    return torch.nn.Linear(4, 3)\n"
DESCRIPTION = re.search(r"`(--parameter 'module.*?)`", PAGE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_page_converts(name: str, copy_of: Callable[[Variant], Path], bench: Workbench) -> None:
    runtime, fit = MODELS[name]
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    shutil.rmtree(project / "models")
    bench.run([bench.python, "-c", FITTED + fit], project, timeout=120)
    (line,) = [line for line in CONVERSIONS if line.endswith(f" models/{name}")]
    _, *arguments = shlex.split(line)
    bench.run([bench.python, *arguments], project, timeout=120)
    (project / "src/service/network.py").write_text(NETWORK, encoding="utf-8")
    assert DESCRIPTION
    options = shlex.split(DESCRIPTION[1]) if name == "own.safetensors" else []
    command = ["manifest", f"models/{name}", "--name", "own", "--version", "1", *options]
    said = bench.run([bench.python, "-m", "service", *command], project, timeout=120)
    assert "requests may share a batch" in said


@pytest.mark.slow
def test_page_exports(copy_of: Callable[[Variant], Path], bench: Workbench) -> None:
    project = copy_of(Variant("fastapi", "pytorch", "uvicorn"))
    module = "import torch\nmodule = torch.nn.Linear(4, 3)\n"
    bench.run([bench.python, "-c", module + EXPORT], project, timeout=120)
    command = ["manifest", "models/own.pt2", "--name", "own", "--version", "1"]
    said = bench.run([bench.python, "-m", "service", *command], project, timeout=120)
    assert "requests may share a batch" in said


@pytest.mark.slow
def test_page_serves_with_code_of_the_owner(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    """The owner writes runtime.py and names untyped libraries; the template's files stay."""
    project = copy_of(Variant("fastapi", "python", "uvicorn"))
    shutil.rmtree(project / "models")
    bench.run([bench.python, "-c", FITTED + SCIKIT_LEARN], project, timeout=120)
    (project / "src/service/runtime.py").write_text(JOBLIB, encoding="utf-8")
    with (project / "pyproject.toml").open("a", encoding="utf-8") as configuration:
        configuration.write(OVERRIDE)
    _, *arguments = shlex.split(DESCRIBE)
    said = bench.run([bench.python, *arguments], project, timeout=120)
    assert "wrote src/service/predict.py, tests/golden.json, and the tolerance" in said
    check_code(bench, project, "src", "tests")
    tests = [bench.python, "-m", "pytest", "-q", "-p", "no:copie", "tests/test_model.py"]
    bench.run(tests, project, timeout=300)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        instances = [
            {"length": 8, "width": 1, "height": 3},
            {"length": 1, "width": 8, "height": 3},
        ]
        answer = post_json(service.port, "/predict", {"instances": instances})
        assert answer.status == 200, answer.body
        assert [each["label"] for each in answer.json()["predictions"]] == ["long", "wide"]
    described = json.loads((project / "models/manifest.json").read_bytes())
    assert described["runtime"] == "python"
