"""What a runtime answers is what its library answers, for each kind of model that it serves."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_odd_models import COMMON, SKLEARN

from inferplate.matrix import Variant
from inferplate.workbench import Workbench

DATA = """
random = np.random.default_rng(7)
rows = random.normal(size=(300, 4)).astype(np.float32)
few = rows[:7]
binary = (rows[:, 0] + rows[:, 1] > 0).astype(int)
classes = np.digitize(rows[:, 0], [-0.5, 0.5])
numbers = rows @ [1.5, -2, 0.25, 3]
several = np.column_stack((numbers, -numbers, rows[:, 0]))
labels = (rows[:, :3] > 0).astype(int)

def served(artifact, parameters=None, inputs=(), outputs=()):
    described = describe(artifact, inputs, outputs, parameters)
    (name,) = (spec.name for spec in described.input_specs())
    output = described.output_specs()[0]
    model = load(artifact, described)
    answer = model.run({name: few.astype(described.input_specs()[0].dtype)})[output.name]
    alone = [model.run({name: few[n : n + 1].astype(described.input_specs()[0].dtype)})
             for n in range(len(few))]
    assert output.accepts(answer.shape), (output, answer.shape)
    assert np.allclose(np.concatenate([each[output.name] for each in alone]), answer, atol=1e-6)
    return answer

def both(values):
    return np.column_stack((1 - values, values))

def same(found, right):
    right = np.asarray(right)
    assert found.shape == right.shape, (found.shape, right.shape)
    assert np.allclose(found, right, rtol=1e-5, atol=1e-6), (found[:2], right[:2])
    assert np.ptp(found) > 1e-3, "the model has learned nothing"
"""
XGBOOST = (
    COMMON
    + DATA
    + """
import xgboost as xgb

artifact = Path("against.ubj")

def check(estimator, target, right, **fit):
    estimator.fit(rows, target, **fit)
    estimator.save_model(artifact)
    same(served(artifact), right(estimator))

small = {"n_estimators": 8, "max_depth": 3}
probabilities = lambda estimator: estimator.predict_proba(few)
predictions = lambda estimator: estimator.predict(few)
check(xgb.XGBClassifier(**small), binary, probabilities)
check(xgb.XGBClassifier(**small), classes, probabilities)
check(xgb.XGBClassifier(**small), labels, probabilities)
check(xgb.XGBRegressor(**small), numbers, predictions)
check(xgb.XGBRegressor(**small), several, predictions)
check(xgb.XGBRegressor(**small, objective="reg:logistic"), binary, predictions)
check(xgb.XGBRegressor(**small, objective="count:poisson"), np.abs(numbers), predictions)
check(xgb.XGBRegressor(booster="gblinear", n_estimators=8), numbers, predictions)
check(xgb.XGBClassifier(booster="gblinear", n_estimators=8), binary, probabilities)
check(xgb.XGBRegressor(booster="dart", n_estimators=8, rate_drop=0.5), numbers, predictions)

noise = random.permutation(numbers)
early = xgb.XGBRegressor(n_estimators=60, early_stopping_rounds=5, learning_rate=0.9)
check(early, numbers + noise, predictions, eval_set=[(rows[:50], noise[:50])], verbose=False)
assert early.best_iteration + 1 < early.get_booster().num_boosted_rounds()
"""
)
LIGHTGBM = (
    COMMON
    + DATA
    + """
import lightgbm as lgb

artifact = Path("against.txt")

def check(estimator, target, right, **fit):
    estimator.fit(rows, target, **fit)
    estimator.booster_.save_model(artifact)
    same(served(artifact), right(estimator))

small = {"n_estimators": 8, "max_depth": 3, "verbosity": -1}
probabilities = lambda estimator: estimator.predict_proba(few.astype(np.float64))
predictions = lambda estimator: estimator.predict(few.astype(np.float64))
check(lgb.LGBMClassifier(**small), binary, probabilities)
check(lgb.LGBMClassifier(**small), classes, probabilities)
check(lgb.LGBMClassifier(**small, objective="multiclassova"), classes, probabilities)
check(lgb.LGBMRegressor(**small), numbers, predictions)
check(lgb.LGBMRegressor(**small, objective="poisson"), np.abs(numbers), predictions)
check(lgb.LGBMRegressor(**small, objective="cross_entropy"), binary, predictions)

noise = random.permutation(numbers)
early = lgb.LGBMRegressor(n_estimators=60, learning_rate=0.9, verbosity=-1)
stop = {"eval_set": [(rows[:50], noise[:50])], "callbacks": [lgb.early_stopping(5, verbose=False)]}
check(early, numbers + noise, predictions, **stop)
assert early.best_iteration_ < 60
"""
)
SCIKIT_LEARN = (
    COMMON
    + SKLEARN
    + DATA
    + """
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

def check(estimator, target, method, asked=None):
    estimator.fit(rows.astype(np.float64), target)
    parameters = {**save(estimator), **({"method": asked} if asked else {})}
    same(served(artifact, parameters), getattr(estimator, method)(few.astype(np.float64)))

check(LogisticRegression(), binary, "predict_proba")
check(RandomForestClassifier(8), classes, "predict_proba")
check(OneVsRestClassifier(LogisticRegression()), labels, "predict_proba")
check(LinearRegression(), numbers, "predict")
check(RandomForestRegressor(8), several, "predict")
check(LinearSVC(), binary, "predict")
check(LinearSVC(), binary, "decision_function", "decision_function")
check(LinearSVC(), classes, "decision_function", "decision_function")
check(RandomForestClassifier(8), classes, "predict", "predict")
check(StandardScaler(), None, "transform", "transform")
"""
)
TRANSFORMERS = (
    COMMON
    + """
import json, shutil
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

given = manifest.read(Path("models")).file
for kind in (None, "single_label_classification", "multi_label_classification"):
    folder = Path(f"as-{kind}").absolute()
    shutil.copytree(Path("models") / given, folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": kind}))
    model = load(folder, describe(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    classifier = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    longest = min(tokenizer.model_max_length, config["max_position_embeddings"])
    texts = ["a good film", "bad", "", "good bad " * 2000, "bad film " * (longest // 4) + "good"]
    served = model.run({"text": text(*texts)})["probabilities"]
    for row, each in zip(served, texts, strict=True):
        tokens = tokenizer(each, truncation=True, max_length=longest, return_tensors="pt")
        if not tokens["input_ids"].shape[1]:
            continue
        with torch.inference_mode():
            logits = classifier(**tokens).logits[0]
        right = logits.sigmoid() if kind and kind.startswith("multi") else logits.softmax(dim=-1)
        assert np.allclose(row, right.numpy(), atol=1e-4), (kind, each[:30], row, right)
    assert np.ptp(served) > 1e-3
"""
)
ONNX = (
    COMMON
    + """
import onnx, onnxruntime
from onnx import TensorProto, helper

artifact = Path("against.onnx")
info = helper.make_tensor_value_info
graph = helper.make_graph(
    [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ],
    "two",
    [info(name, TensorProto.FLOAT, ["rows", 2]) for name in ("b", "a")],
    [info(name, TensorProto.FLOAT, ["rows", 2]) for name in ("difference", "sum")],
)
opsets = [helper.make_opsetid("", 17)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), artifact)
a = np.arange(6, dtype=np.float32).reshape(3, 2)
batch = {"a": a, "b": 10 * a + 1}
session = onnxruntime.InferenceSession(artifact)
right = dict(zip(("sum", "difference"), session.run(["sum", "difference"], batch), strict=True))
sums, differences = (TensorSpec(name, "FP32", (-1, 2)) for name in ("sum", "difference"))
for outputs in ((), (sums, differences), (differences, sums), (sums,)):
    described = describe(artifact, outputs=outputs)
    found = load(artifact, described).run(batch)
    assert found.keys() == {spec.name for spec in described.output_specs()}
    for name, array in found.items():
        assert np.array_equal(array, right[name])
"""
)
CASES = {
    "xgboost": XGBOOST,
    "lightgbm": LIGHTGBM,
    "scikit-learn": SCIKIT_LEARN,
    "transformers": TRANSFORMERS,
    "onnxruntime": ONNX,
}


@pytest.mark.parametrize(("runtime", "script"), CASES.items(), ids=list(CASES))
def test_answers_are_the_librarys(
    runtime: str, script: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    (project / "against.py").write_text(script, encoding="utf-8")
    bench.run([bench.python, "against.py"], project, timeout=300)
