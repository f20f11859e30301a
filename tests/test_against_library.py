"""What a runtime answers is what its library answers, for each kind of model that it serves."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_odd_models import COMMON, SKLEARN

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

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
    model = load(artifact, described)
    answers = model.run({name: few.astype(described.input_specs()[0].dtype)})
    alone = [model.run({name: few[n : n + 1].astype(described.input_specs()[0].dtype)})
             for n in range(len(few))]
    for output in described.output_specs():
        answer = answers[output.name]
        assert output.accepts(answer.shape), (output, answer.shape)
        one_by_one = np.concatenate([each[output.name] for each in alone])
        assert np.allclose(one_by_one, answer, atol=1e-6)
    return [answers[output.name] for output in described.output_specs()]

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
    (found,) = served(artifact)
    same(found, right(estimator))

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
    (found,) = served(artifact)
    same(found, right(estimator))

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
CATBOOST = (
    COMMON
    + DATA
    + """
import catboost as cb

artifact = Path("against.cbm")

def check(model, target, method, **fit):
    model.fit(rows, target, **fit)
    model.save_model(artifact)
    (found,) = served(artifact)
    same(found, getattr(model, method)(few))

small = {"iterations": 8, "depth": 3, "verbose": False, "allow_writing_files": False}
probabilities, predictions = "predict_proba", "predict"
check(cb.CatBoostClassifier(**small), binary, probabilities)
check(cb.CatBoostClassifier(**small), classes, probabilities)
check(cb.CatBoostClassifier(**small, loss_function="MultiClassOneVsAll"), classes, probabilities)
check(cb.CatBoostClassifier(**small, loss_function="MultiLogloss"), labels, probabilities)
check(cb.CatBoostClassifier(**small, loss_function="CrossEntropy"), binary * 0.9, probabilities)
check(cb.CatBoostClassifier(**small), np.array(["no", "yes"])[binary], probabilities)
assert runtime.inspect(artifact, {}).classes == ("no", "yes")
check(cb.CatBoostRegressor(**small), numbers, predictions)
check(cb.CatBoostRegressor(**small, loss_function="MultiRMSE"), several, predictions)
check(cb.CatBoostRegressor(**small, loss_function="Poisson"), np.abs(numbers), predictions)
check(cb.CatBoostRegressor(**small, loss_function="Tweedie:variance_power=1.5"),
      np.abs(numbers), predictions)
check(cb.CatBoostRegressor(**small, loss_function="RMSEWithUncertainty"), numbers, predictions)
check(cb.CatBoostRanker(**small, loss_function="YetiRank"), classes, predictions,
      group_id=np.arange(300) // 10)

noise = random.permutation(numbers)
early = {**small, "iterations": 60, "learning_rate": 0.9, "early_stopping_rounds": 5}
for best in (True, False):
    model = cb.CatBoostRegressor(**early, use_best_model=best)
    check(model, numbers + noise, predictions, eval_set=(rows[:50], noise[:50]))
    assert model.tree_count_ < 60
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

def check(estimator, target, *methods, asked=None):
    estimator.fit(rows.astype(np.float64), target)
    parameters = {**save(estimator), **({"method": asked} if asked else {})}
    for found, method in zip(served(artifact, parameters), methods, strict=True):
        same(found, getattr(estimator, method)(few.astype(np.float64)))

check(LogisticRegression(), binary, "predict_proba", "predict")
check(RandomForestClassifier(8), classes, "predict_proba", "predict")
check(OneVsRestClassifier(LogisticRegression()), labels, "predict_proba", "predict")
check(LinearRegression(), numbers, "predict")
check(RandomForestRegressor(8), several, "predict")
check(LinearSVC(), binary, "predict", "decision_function")
check(LinearSVC(), binary, "decision_function", asked="decision_function")
check(LinearSVC(), classes, "decision_function", asked="decision_function")
check(RandomForestClassifier(8), classes, "predict", asked="predict")
check(StandardScaler(), None, "transform", asked="transform")
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
    texts = ["a good film", "bad", "", "bad " * 10 + "good " * (longest // 2)]
    texts += ["bad " * longest + "good " * 2000, "good " * (longest // 2) + "bad " * 2000]
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
PYTORCH = (
    COMMON
    + """
import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(0)
a, b = torch.randn(5, 3), torch.randn(5, 3)
batch = {"a": a.numpy(), "b": b.numpy()}
rows = torch.export.Dim("rows")
dynamic = {"a": {0: rows}, "b": {0: rows}}

class Network(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
        self.norm, self.dropout = nn.BatchNorm1d(2), nn.Dropout(0.5)
        self.norm.running_mean += 0.3
        self.answer = answer

    def forward(self, a, b):
        return self.answer(self.dropout(self.norm(self.first(a) - 2 * self.second(b))))

ANSWERS = {
    "regression": lambda hidden: hidden[:, :1],
    "binary": lambda hidden: hidden[:, 0].sigmoid(),
    "classes": lambda hidden: hidden.softmax(dim=-1),
    "pair": lambda hidden: (hidden[:, :1], hidden.sigmoid()),
    "dictionary": lambda hidden: {"wide": hidden, "narrow": hidden[:, :1].sigmoid()},
}

def regression():
    return Network(ANSWERS["regression"])

def same(found, right):
    right = right.detach().numpy()
    assert found.shape == right.shape, (found.shape, right.shape)
    assert np.allclose(found, right, atol=1e-6), (found[:2], right[:2])
    assert np.ptp(found) > 1e-3

for kind, answer in ANSWERS.items():
    network = Network(answer).eval()
    right = network(a, b)
    artifact = Path(f"{kind}.pt2")
    for passed in ((a, b), (a,)):
        named = {"b": b} if len(passed) == 1 else {}
        program = torch.export.export(network, passed, named, dynamic_shapes=dynamic)
        torch.export.save(program, artifact)
        described = describe(artifact)
        names = [spec.name for spec in described.output_specs()]
        by_name = right if isinstance(right, dict) else dict(
            zip(names, right if isinstance(right, tuple) else (right,), strict=True)
        )
        orders = {tuple(names), *([tuple(names[::-1])] if kind == "dictionary" else [])}
        for order in orders:
            specs = {spec.name: spec for spec in described.output_specs()}
            described = describe(artifact, outputs=[specs[name] for name in order])
            found = load(artifact, described).run(batch)
            assert found.keys() == by_name.keys()
            for name, array in found.items():
                same(array, by_name[name])

network = regression().eval()
artifact = Path("regression.safetensors")
save_file(network.state_dict(), artifact)
tensor = lambda name, width: TensorSpec(name, "FP32", (-1, width))
described = describe(
    artifact,
    inputs=(tensor("a", 3), tensor("b", 3)),
    outputs=(tensor("value", 1),),
    parameters={"module": "against:regression"},
)
same(load(artifact, described).run(batch)["value"], network(a, b))
"""
)
OPENVINO = (
    COMMON
    + """
import openvino
from openvino import opset13 as ops

random = np.random.default_rng(7)
a, b = (random.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
weights = random.normal(size=(3, 2)).astype(np.float32)
first, second = (ops.parameter([-1, 3], np.float32) for _ in range(2))
first.output(0).set_names({"a"})
second.output(0).set_names({"b"})
hidden = ops.matmul(ops.subtract(first, second), weights, False, False)
outputs = {
    "regression": ops.reduce_sum(hidden, np.array([1]), keep_dims=True),
    "binary": ops.sigmoid(ops.reduce_sum(hidden, np.array([1]), keep_dims=False)),
    "classes": ops.softmax(hidden, axis=1),
}
for name, node in outputs.items():
    node.output(0).set_names({name})
whole = openvino.Model(list(outputs.values()), [second, first], "against")
artifact = Path("against.xml")
openvino.save_model(whole, artifact, compress_to_fp16=False)
exact = {"EXECUTION_MODE_HINT": "ACCURACY"}
right = openvino.Core().compile_model(whole, "CPU", exact)({"a": a, "b": b})
specs = describe(artifact).output_specs()
for chosen in (specs, specs[::-1], specs[1:], specs[:1]):
    found = load(artifact, describe(artifact, outputs=chosen)).run({"a": a, "b": b})
    assert found.keys() == {spec.name for spec in chosen}
    for name, array in found.items():
        assert array.shape == right[name].shape
        assert np.allclose(array, right[name], atol=1e-6)
        assert np.ptp(array) > 1e-3
"""
)
PYTHON = (
    COMMON
    + DATA
    + """
from sklearn.linear_model import LogisticRegression

artifact = Path("against.npz")
for target in (binary, classes):
    fitted = LogisticRegression().fit(rows, target)
    weights, bias = fitted.coef_.T, fitted.intercept_
    if len(fitted.classes_) == 2:
        weights, bias = np.hstack((0 * weights, weights)), np.append(0, bias)
    np.savez(artifact, weights=weights.astype(np.float32), bias=bias.astype(np.float32))
    (found,) = served(artifact)
    same(found, fitted.predict_proba(few))
"""
)
CASES = {
    "xgboost": XGBOOST,
    "lightgbm": LIGHTGBM,
    "catboost": CATBOOST,
    "scikit-learn": SCIKIT_LEARN,
    "transformers": TRANSFORMERS,
    "onnxruntime": ONNX,
    "pytorch": PYTORCH,
    "openvino": OPENVINO,
    "python": PYTHON,
}


@pytest.mark.parametrize(("runtime", "script"), CASES.items(), ids=list(CASES))
def test_answers_are_the_librarys(
    runtime: str, script: str, bench: Workbench, copy_of: Callable[[Variant], Path]
) -> None:
    project = copy_of(Variant("fastapi", runtime, "uvicorn"))
    (project / "against.py").write_text(script, encoding="utf-8")
    bench.run([bench.python, "against.py"], project, timeout=300)
