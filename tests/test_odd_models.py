"""What a model gives alone it gives in the service, on every runtime: text, ids, whole numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

COMMON = """
from pathlib import Path
import numpy as np
from service import runtime
from service.core import manifest
from service.core.errors import InvalidTensors
from service.core.manifest import ArtifactError
from service.core.tensors import TensorSpec

def describe(artifact, inputs=(), outputs=(), parameters=None):
    if not (inputs and outputs):
        found = runtime.inspect(artifact, parameters or {})
        inputs, outputs = inputs or found.inputs, outputs or found.outputs
    return manifest.describe(
        artifact, name="odd", version="1", runtime=runtime.RUNTIME,
        inputs=inputs, outputs=outputs, parameters=parameters,
    )

def load(artifact, described):
    model = runtime.load(artifact, described, threads=1, device="cpu")
    manifest.check_signature(described, model.signature)
    return model

def message(error, call, *arguments):
    try:
        call(*arguments)
    except error as raised:
        assert "\\n" not in str(raised)
        return str(raised)
    raise AssertionError("nothing was raised")

def text(*rows):
    return np.array([row if isinstance(row, bytes) else row.encode() for row in rows], object)
"""
SKLEARN = """
from skops.io import dump, get_untrusted_types
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

artifact = Path("odd.skops")
rows = np.array([["red", "S"], ["red", "M"], ["blue", "S"], ["\\N{PILL}\\0", "M"]] * 20, object)
labels = ["warm", "warm", "cold", "cold"] * 20

def save(estimator):
    dump(estimator, artifact)
    return {"trusted": get_untrusted_types(file=artifact)}
"""
TEXT_COLUMNS = (
    SKLEARN
    + """
for encoder in (
    make_pipeline(OneHotEncoder(handle_unknown="ignore")),
    OneHotEncoder(),
    OrdinalEncoder(),
    make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=""), OneHotEncoder()),
    ColumnTransformer([("all", OneHotEncoder(), [0, 1])]),
):
    fitted = make_pipeline(encoder, LogisticRegression(C=10)).fit(rows, labels)
    trusted = save(fitted)
    described = describe(artifact, parameters=trusted)
    assert [(spec.datatype, spec.shape) for spec in described.input_specs()] == [("BYTES", (-1, 2))]
    served = load(artifact, described).run({"features": text(*rows[:4].ravel()).reshape(4, 2)})
    assert np.allclose(served["probabilities"], fitted.predict_proba(rows[:4]))
model = load(artifact, described)
broken = {"features": np.array([[b"red", b"\\xff"]], object)}
assert "'features'" in message(InvalidTensors, model.run, broken)

described = describe(artifact, parameters={**trusted, "method": "predict"})
assert described.output_specs()[0].datatype == "BYTES"
predicted = load(artifact, described).run({"features": text("red", "S").reshape(1, 2)})
assert predicted["prediction"].tolist() == [b"warm"]
"""
)
TEXTS = (
    SKLEARN
    + """
texts = ["a good film", "a bad film", "good \\N{PILL}", ""] * 5
fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5)
described = describe(artifact, parameters=save(fitted))
assert [(spec.datatype, spec.shape) for spec in described.input_specs()] == [("BYTES", (-1,))]
served = load(artifact, described).run({"features": text(*texts[:4])})
assert np.allclose(served["probabilities"], fitted.predict_proba(texts[:4]))
"""
)
MIXED_COLUMNS = (
    SKLEARN
    + """
mixed = np.array([["red", 1.5], ["blue", 2.5]] * 20, object)
columns = ColumnTransformer([("a", OneHotEncoder(), [0]), ("b", StandardScaler(), [1])])
fitted = make_pipeline(columns, LogisticRegression()).fit(mixed, [1, 0] * 20)
told = message(ArtifactError, describe, artifact, (), (), save(fitted))
assert "--input" in told and "BYTES" in told
encoded = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
told = message(ArtifactError, describe, artifact, (), (), save(encoded.fit(mixed, [1, 0] * 20)))
assert "--input" in told and "BYTES" in told
parameters = save(fitted)
features = TensorSpec("features", "BYTES", (-1, 2))
output = TensorSpec("probabilities", "FP64", (-1, 2))
described = describe(artifact, (features,), (output,), parameters)
served = load(artifact, described).run({"features": text("blue", "2.5").reshape(1, 2)})
assert np.array_equal(served["probabilities"], fitted.predict_proba(mixed[1:2]))

more = (features, TensorSpec("more", "BYTES", (-1, 2)))
described = describe(artifact, more, (output,), parameters)
assert "one input" in message(ArtifactError, load, artifact, described)
"""
)
SKLEARN_IDS = (
    SKLEARN
    + """
from sklearn.linear_model import LinearRegression

ids = np.arange(400.0)[:, None] + 2**26
fitted = LinearRegression().fit(ids, ids[:, 0])
parameters = save(fitted)
described = describe(artifact, parameters=parameters)
assert described.input_specs()[0].datatype == "FP64"
served = load(artifact, described).run({"features": ids})
assert np.array_equal(served["prediction"], fitted.predict(ids))
whole = TensorSpec("id", "INT64", (-1,))
described = describe(artifact, outputs=(whole,), parameters=parameters)
model = load(artifact, described)
assert "INT64" in message(ValueError, model.run, {"features": ids + 0.25})
"""
)
LIGHTGBM_IDS = """
import lightgbm

artifact = Path("odd.txt")
ids = np.arange(400)[:, None] + 2**26
prices = np.random.default_rng(0).normal(size=400)
exact = dict(min_data_in_leaf=1, min_data_in_bin=1, max_bin=1000, num_leaves=400, verbosity=-1)
data = lightgbm.Dataset(ids.astype(float), prices)
booster = lightgbm.train({"objective": "regression", **exact}, data, num_boost_round=1)
booster.save_model(artifact)
right = booster.predict(ids.astype(np.float64))
assert len(set(right)) == 400
assert describe(artifact).input_specs()[0].datatype == "FP64"
for datatype in ("FP64", "INT64", "UINT64", "INT32"):
    features = TensorSpec("features", datatype, (-1, 1))
    model = load(artifact, describe(artifact, (features,)))
    served = model.run({"features": ids.astype(features.dtype)})
    assert np.array_equal(served["prediction"], right), datatype
whole = TensorSpec("prediction", "INT64", (-1,))
model = load(artifact, describe(artifact, (), (whole,)))
assert "INT64" in message(ValueError, model.run, {"features": ids.astype(float)})
"""
ONNX_TEXT = """
import onnx
from onnx import TensorProto, helper

artifact = Path("odd.onnx")
graph = helper.make_graph(
    [helper.make_node("Identity", ["words"], ["same"])],
    "text",
    [helper.make_tensor_value_info("words", TensorProto.STRING, ["rows"])],
    [helper.make_tensor_value_info("same", TensorProto.STRING, ["rows"])],
)
opsets = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), artifact)
model = load(artifact, describe(artifact))
words = text("", "a", "a\\0", "\\0", "\\N{PILL}", "\\N{COMBINING ACUTE ACCENT}")
assert model.run({"words": words})["same"].tolist() == words.tolist()
assert model.run({"words": words[:0]})["same"].tolist() == []
for wrong in (b"\\xff", b"\\xed\\xa0\\x80"):
    assert "'words'" in message(InvalidTensors, model.run, {"words": text("right", wrong)})
"""
ONNX_MODEL = """
import onnx
from onnx import TensorProto as T, helper as h

artifact = Path("odd.onnx")

def save(nodes, inputs, outputs, **constants):
    infos = [[h.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    weights = [
        onnx.numpy_helper.from_array(value, name) for name, value in constants.items()
    ]
    graph = h.make_graph(nodes, "g", *infos, weights)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), artifact)

def ask(model, **inputs):
    for array in inputs.values():
        array.flags.writeable = False
    return model.run(inputs)["y"].tolist()
"""
ONNX_SCALAR = (
    ONNX_MODEL
    + """
x, rate, y = ("x", T.FLOAT, ["N", 2]), ("rate", T.INT64, []), ("y", T.FLOAT, ["N", 2])
cast = h.make_node("Cast", ["rate"], ["f"], to=T.FLOAT)
save([cast, h.make_node("Mul", ["x", "f"], ["y"])], [x, rate], [y])
found = runtime.inspect(artifact, {})
assert found.undescribed == ()
described = describe(artifact)
assert {spec.name: spec.shape for spec in described.input_specs()} == {"x": (-1, 2), "rate": ()}
model = load(artifact, described)
assert ask(model, x=np.ones((1, 2), np.float32), rate=np.array(3)) == [[3, 3]]
assert ask(model, x=np.ones((1, 2), np.float32), rate=np.array(4)) == [[4, 4]]

save([cast, h.make_node("Mul", ["x", "f"], ["y"])], [x, ("rate", T.INT64, None)], [y])
if runtime.RUNTIME == "onnxruntime":  # OpenVINO takes it for a scalar, too
    assert [tensor.name for tensor in runtime.inspect(artifact, {}).undescribed] == ["rate"]
"""
)
AFTER_FAILURE = (
    ONNX_MODEL
    + """
x, y = ("x", T.FLOAT, ["N", 3, "H", "W"]), ("y", T.FLOAT, ["N", 6, "I", "J"])
half = h.make_node("AveragePool", ["x"], ["h"], kernel_shape=[2, 2], strides=[2, 2])
double = h.make_node("ConvTranspose", ["h", "w"], ["d"], strides=[2, 2])
both = h.make_node("Concat", ["x", "d"], ["y"], axis=1)
save([half, double, both], [x], [y], w=np.ones((3, 3, 2, 2), np.float32))
model = load(artifact, describe(artifact))
right, odd = np.ones((1, 3, 8, 8), np.float32), np.ones((1, 3, 7, 7), np.float32)
answer = ask(model, x=right)
assert np.isfinite(answer).all()
for _ in range(2):
    try:
        ask(model, x=odd)
    except Exception:
        pass
    else:
        raise AssertionError("twice the half of seven is not seven")
    assert ask(model, x=right) == answer
"""
)
TRANSFORMERS_TEXT = """
described = manifest.read(Path("models"))
model = load(Path("models") / described.file, described)
model.run({"text": text("", "\\N{PILL}", "a\\0")})
assert "'text'" in message(InvalidTensors, model.run, {"text": text("right", b"\\xff")})
"""
NO_TEXT = """
described = manifest.read(Path("models"))
artifact = Path("models") / described.file
for kind in ("inputs", "outputs"):
    (tensor,) = getattr(described, kind)
    changed = {kind: [tensor.model_copy(update={"datatype": "BYTES"})]}
    told = message(ArtifactError, load, artifact, described.model_copy(update=changed))
    assert "BYTES" in told and tensor.name in told
"""
NO_TEXT_FOR_A_MODULE = """
from safetensors.torch import save_model
import torch

artifact = Path("odd.safetensors")
save_model(torch.nn.Identity(), str(artifact))
words = (TensorSpec("words", "BYTES", (-1,)),)
described = describe(artifact, words, words, {"module": "torch.nn:Identity"})
assert "BYTES" in message(ArtifactError, load, artifact, described)
"""
OUTPUTS_OF_A_MODULE = """
from safetensors.torch import save_model
import torch

artifact = Path("odd.safetensors")
save_model(torch.nn.Identity(), str(artifact))
x, y, z = (TensorSpec(name, "FP32", (-1, 2)) for name in "xyz")
values = {"x": np.ones((3, 2), np.float32)}
one = load(artifact, describe(artifact, (x,), (y,), {"module": "torch.nn:Identity"}))
assert one.run(values)["y"].tolist() == values["x"].tolist()
two = load(artifact, describe(artifact, (x,), (y, z), {"module": "torch.nn:Identity"}))
assert "returns 1 tensors, the manifest names 2" in message(ValueError, two.run, values)
"""
WIDE_INTEGERS = """
import openvino
from openvino import opset13 as ops

for datatype in ("int64", "uint64", "uint32"):
    artifact = Path(f"{datatype}.xml")
    x = ops.parameter([-1], np.dtype(datatype))
    y = ops.add(x, ops.constant(np.array([1], datatype)))
    x.output(0).set_names({"x"})
    y.output(0).set_names({"y"})
    openvino.save_model(openvino.Model([y], [x]), artifact)
    model = load(artifact, describe(artifact))
    values = np.array([2**24 + 1, 2**31 - 2], datatype)
    assert model.run({"x": values})["y"].tolist() == [2**24 + 2, 2**31 - 1]
    assert "'x'" in message(InvalidTensors, model.run, {"x": values + 2})
    assert len(model.run({"x": values[:0]})["y"]) == 0
model = load(Path("int64.xml"), describe(Path("int64.xml")))
assert "'x'" in message(InvalidTensors, model.run, {"x": np.array([-(2**31) - 1])})
"""
UNKNOWN_OPERATIONS = """
import onnx
from onnx import TensorProto, helper

node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
graph = helper.make_graph([node], "scaler", [x], [y])
artifact = Path("classical.onnx")
onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), artifact)
told = message(manifest.ArtifactError, describe, artifact)
assert "OpenVINO does not have ai.onnx.ml.Scaler: use the runtime onnxruntime" in told
"""
CASES = {
    "text columns": ("scikit-learn", TEXT_COLUMNS),
    "texts": ("scikit-learn", TEXTS),
    "mixed columns": ("scikit-learn", MIXED_COLUMNS),
    "ids": ("scikit-learn", SKLEARN_IDS),
    "ids in trees": ("lightgbm", LIGHTGBM_IDS),
    "strings": ("onnxruntime", ONNX_TEXT),
    **{f"scalars in {runtime}": (runtime, ONNX_SCALAR) for runtime in ("onnxruntime", "openvino")},
    **{
        f"failures in {runtime}": (runtime, AFTER_FAILURE)
        for runtime in ("onnxruntime", "openvino")
    },
    "sentences": ("transformers", TRANSFORMERS_TEXT),
    "wide integers": ("openvino", WIDE_INTEGERS),
    "unknown operations": ("openvino", UNKNOWN_OPERATIONS),
    "text for a module": ("pytorch", NO_TEXT_FOR_A_MODULE),
    "outputs of a module": ("pytorch", OUTPUTS_OF_A_MODULE),
    **{
        f"text for {runtime}": (runtime, NO_TEXT)
        for runtime in ("catboost", "lightgbm", "openvino", "pytorch", "xgboost")
    },
}


@pytest.mark.parametrize(("runtime", "script"), CASES.values(), ids=list(CASES))
def test_an_odd_model_answers_as_alone_or_is_refused(
    runtime: str, script: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    (project / "odd.py").write_text(COMMON + script, encoding="utf-8")
    bench.run([bench.python, "odd.py"], project, timeout=120)
