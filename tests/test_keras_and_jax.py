"""docs/keras-and-jax.md: its files and commands, as they stand there."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_first_predict import check_code

from inferplate.errors import CheckFailed
from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.source import template_root
from inferplate.wire import alike, post_json
from inferplate.workbench import Workbench

PAGE = (template_root() / "docs/keras-and-jax.md").read_text(encoding="utf-8")
TO_ONNX, KERAS, EXPORT, JAX = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DESCRIBE_KERAS, DESCRIBE_JAX = (
    line for line in PAGE.splitlines() if line.startswith("python -m service manifest")
)
COLUMNS = ["area", "rooms", "garden"]
ROWS = [[100.0, 4.0, 1.0], [50.0, 2.0, 0.0], [70.0, 3.0, 1.0]]
NETWORK = f"""
import json
from pathlib import Path
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
model.build()
Path("models").mkdir(exist_ok=True)
rows = np.array({ROWS}, np.float32)
Path("expected.json").write_text(json.dumps(model.predict_on_batch(rows).tolist()))
"""
FUNCTION = f"""
import json
import jax.numpy as jnp, numpy as np
weights = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
def predict(rows):
    return jnp.tanh(rows @ weights)
rows = np.array({ROWS}, np.float32)
Path("expected.json").write_text(json.dumps(np.asarray(predict(rows)).tolist()))
"""
BACKEND = {"KERAS_BACKEND": "torch"}
CASES = {
    "keras": (NETWORK + 'model.save("models/own.keras")\n', KERAS, DESCRIBE_KERAS),
    "jax": (EXPORT.replace("rows =", FUNCTION + "rows =", 1), JAX, DESCRIBE_JAX),
}
OVERRIDE = """
[[tool.mypy.overrides]]
module = ["keras.*"]
ignore_missing_imports = true
"""


def project_of(bench: Workbench, runtime: str, place: Path) -> Path:
    shutil.copytree(bench.project(Variant("fastapi", runtime, "uvicorn")), place)
    shutil.rmtree(place / "models", ignore_errors=True)
    return place


def answers(project: Path, bench: Workbench, rows: Sequence[list[float]]) -> list[list[float]]:
    """Start the service, and ask for one row, then for all rows together."""
    with Service(project, bench.python, {"SERVICE_THREADS": "1", **BACKEND}) as service:
        service.wait_ready()
        instances = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        found = [
            post_json(service.port, "/predict", {"instances": asked})
            for asked in (instances[:1], instances)
        ]
    assert [answer.status for answer in found] == [200, 200], [answer.body for answer in found]
    alone, together = (answer.json()["predictions"] for answer in found)
    assert alike(alone, together[:1], 1e-4)
    return [next(iter(prediction.values())) for prediction in together]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_runtime_of_the_page(name: str, bench: Workbench, tmp_path: Path) -> None:
    program, runtime, describe = CASES[name]
    project = project_of(bench, "python", tmp_path / "project")
    (project / "src/service/runtime.py").write_text(runtime, encoding="utf-8")
    bench.run([bench.python, "-c", program], project, timeout=120, settings=BACKEND)
    bench.run([bench.python, *shlex.split(describe)[1:]], project, timeout=120, settings=BACKEND)
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text(encoding="utf-8") + OVERRIDE, encoding="utf-8")
    check_code(bench, project)
    expected = json.loads((project / "expected.json").read_bytes())
    assert alike(answers(project, bench, ROWS), expected, 1e-4)
    file = next(path for path in (project / "models").iterdir() if path.stem == "own")
    file.write_bytes(b"something else")
    with pytest.raises(CheckFailed) as refused:
        bench.run([bench.python, *shlex.split(describe)[1:]], project, timeout=60, settings=BACKEND)
    assert f"models/{file.name} " in str(refused.value)
    assert "Traceback" not in str(refused.value)


@pytest.mark.slow
def test_keras_exports_to_onnx_in_one_line(bench: Workbench, tmp_path: Path) -> None:
    project = project_of(bench, "onnxruntime", tmp_path / "project")
    program = NETWORK + TO_ONNX
    bench.run([bench.python, "-c", program], project, timeout=120, settings=BACKEND)
    describe = (
        f"-m service manifest models/own.onnx --name own --version 1 --columns {','.join(COLUMNS)}"
    )
    bench.run([bench.python, *describe.split(), "--write-predict"], project, timeout=120)
    expected = json.loads((project / "expected.json").read_bytes())
    assert alike(answers(project, bench, ROWS), expected, 1e-4)
