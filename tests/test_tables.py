"""Tables: models that were trained on a DataFrame answer in the service as in their library."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.workbench import Workbench

COMMON = """
import contextlib, io, json, sys
from pathlib import Path
import numpy as np
import pandas as pd
from service import runtime
from service.__main__ import main
from service.core import manifest
from service.core.errors import Refused
from service.core.manifest import ArtifactError
from service.core.tensors import TensorSpec

def message(error, call, *arguments):
    try:
        call(*arguments)
    except error as raised:
        assert "\\n" not in str(raised)
        return str(raised)
    raise AssertionError("nothing was raised")

def command(artifact, *options):
    '''Describe an artifact as people do, and return its model, its signature and its manifest.'''
    known = ["--name", "own", "--version", "1", *options]
    printed = io.StringIO()
    sys.argv = ["service", "manifest", str(artifact), *known]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main()
    assert code == 0, printed.getvalue()
    described = manifest.read(artifact.parent)
    model = runtime.load(artifact, described, threads=1, device="cpu")
    manifest.check_signature(described, model.signature)
    signature = runtime.inspect(artifact, described.parameters)
    return model, signature, described, printed.getvalue()

def column(spec, values):
    if spec.datatype != "BYTES":
        return np.array(list(values)).astype(spec.dtype)
    array = np.empty(len(values), object)
    array[:] = [value.encode() if isinstance(value, str) else None for value in values]
    return array

def batch(described, frame):
    return {spec.name: column(spec, frame[spec.name]) for spec in described.input_specs()}

def refused(model, tensors, name, row, value):
    changed = {**tensors, name: tensors[name].copy()}
    changed[name][row] = value
    return message(Refused, model.run, changed)

random = np.random.default_rng(0)
folder = Path("own")
folder.mkdir()
rows = 200
frame = pd.DataFrame({
    "age": random.normal(40, 10, rows),
    "city": random.choice(["rome", "paris", "oslo"], rows),
    "rooms": random.integers(0, 5, rows),
    "zone": random.choice([10, 20, 30], rows),
    "garden": random.random(rows) > 0.5,
    "color": random.choice(["red", "blue"], rows),
})
frame.loc[::7, "age"] = np.nan
frame.loc[::9, "color"] = None
score = frame.age.fillna(30) + 9 * (frame.city == "rome") + frame.rooms + 4 * frame.garden
matrix = frame[["age", "rooms"]].fillna(0).to_numpy(float)
"""
TREES = """
for name in ("city", "zone", "color"):
    frame[name] = frame[name].astype("category")
codes = np.column_stack([
    values.cat.codes.replace(-1, np.nan) if values.dtype == "category" else values.astype(float)
    for _, values in frame.items()
])

def check_refusals(model, tensors):
    unknown = "is not a category that the model was trained on"
    assert refused(model, tensors, "city", 5, b"berlin") == f"row 5, city: {unknown}"
    assert refused(model, tensors, "city", 0, b"Rome") == f"row 0, city: {unknown}"
    assert refused(model, tensors, "zone", 3, 15) == f"row 3, zone: {unknown}"

def check_empty_text_is_missing(model, tensors):
    emptied = {**tensors, "color": tensors["color"].copy()}
    emptied["color"][[value is None for value in tensors["color"]]] = b""
    for name, output in model.run(emptied).items():
        assert np.array_equal(output, model.run(tensors)[name])

def check_codes(model, right):
    name = next(iter(right))
    rows = codes.astype(model.signature.inputs[0].dtype)
    assert np.array_equal(model.run({"features": rows})[name], right[name])
    for wrong in (7, -1, 0.5):
        changed = rows.copy()
        changed[4, 1] = wrong
        assert message(Refused, model.run, {"features": changed}).startswith("row 4, city: ")
"""
XGBOOST = (
    TREES
    + """
import xgboost as xgb

artifact = folder / "own.ubj"
fitted = xgb.XGBClassifier(n_estimators=9, enable_categorical=True).fit(frame, score > 45)
fitted.save_model(artifact)
model, found, described, told = command(artifact)
assert described.parameters == {"frame": True}, described.parameters
assert "share a batch" in told, told
assert [(each.name, each.datatype, each.categories, each.optional) for each in found.features] == [
    ("age", "FP32", (), True),
    ("city", "BYTES", ("oslo", "paris", "rome"), True),
    ("rooms", "FP32", (), True),
    ("zone", "FP64", (10, 20, 30), True),
    ("garden", "BOOL", (), False),
    ("color", "BYTES", ("blue", "red"), True),
]
assert found.classes == (0, 1)
tensors = batch(described, frame)
right = {"probabilities": fitted.predict_proba(frame)}
assert np.array_equal(model.run(tensors)["probabilities"], right["probabilities"])
check_refusals(model, tensors)
check_empty_text_is_missing(model, tensors)
model, found, described, _ = command(artifact, "--parameter", "frame=false")
check_codes(model, right)
assert [each.categories for each in found.features][1:4] == [(0, 1, 2), (), (0, 1, 2)]

spelt = pd.DataFrame({"town": pd.Categorical(np.array(["\\u014cslo", "rome"])[np.arange(90) % 2])})
fitted = xgb.XGBRegressor(n_estimators=2, enable_categorical=True).fit(spelt, np.arange(90) % 2)
fitted.save_model(artifact)
assert "'town'" in message(ArtifactError, runtime.inspect, artifact, {})
coded = xgb.DMatrix(codes, score, feature_types=["q", "c", "q", "c", "q", "c"],
                    enable_categorical=True)
booster = xgb.train({}, coded, 3)
booster.save_model(artifact)
for parameters in ({}, {"frame": True}):
    told = message(ArtifactError, runtime.inspect, artifact, parameters)
    assert "'f1'" in told and "frame=false" in told
model, *_ = command(artifact, "--parameter", "frame=false")
served = model.run({"features": codes.astype(np.float32)})["prediction"]
assert np.array_equal(served, booster.predict(coded))
assert "true or false" in message(ArtifactError, runtime.inspect, artifact, {"frame": 1})

quantiles = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
ranks = np.clip(score // 15, 0, 4).astype(int)
for fitted, shape, labels in (
    (xgb.XGBRanker(n_estimators=3).fit(matrix, ranks, qid=np.repeat(range(20), 10)), (-1,), ()),
    (xgb.XGBRegressor(n_estimators=3, **quantiles).fit(matrix, score), (-1, 3), ()),
    (xgb.XGBRegressor(n_estimators=3).fit(matrix, matrix), (-1, 2), ()),
    (xgb.XGBRegressor(n_estimators=3, multi_strategy="multi_output_tree").fit(matrix, matrix),
     (-1, 2), ()),
    (xgb.XGBClassifier(n_estimators=3).fit(matrix, matrix > 3), (-1, 2), ()),
    (xgb.XGBClassifier(n_estimators=3).fit(matrix, ranks - ranks.min()), None, True),
):
    fitted.save_model(artifact)
    model, found, described, _ = command(artifact)
    (output,) = described.output_specs()
    asked = fitted.predict_proba if output.name == "probabilities" else fitted.predict
    right = asked(matrix)
    assert np.array_equal(model.run({"features": matrix.astype(np.float32)})[output.name], right)
    assert output.shape == (shape or (-1, right.shape[1]))
    assert found.classes == (tuple(range(right.shape[1])) if labels else ())
"""
)
LIGHTGBM = (
    TREES
    + """
import lightgbm as lgb

artifact = folder / "own.txt"
options = dict(n_estimators=9, verbose=-1, min_data_per_group=1)
fitted = lgb.LGBMClassifier(**options).fit(frame, score > 45)
fitted.booster_.save_model(artifact)
model, found, described, told = command(artifact)
assert described.parameters == {"frame": True}, described.parameters
assert "share a batch" in told, told
assert [(each.name, each.datatype, each.categories, each.optional) for each in found.features] == [
    ("age", "FP64", (), True),
    ("city", "BYTES", ("oslo", "paris", "rome"), True),
    ("rooms", "FP64", (), True),
    ("zone", "FP64", (10, 20, 30), True),
    ("garden", "FP64", (), True),
    ("color", "BYTES", ("blue", "red"), True),
]
assert (found.features[0].minimum, found.features[0].maximum) == (frame.age.min(), frame.age.max())
assert found.features[1].minimum is None
tensors = batch(described, frame)
right = {"probabilities": fitted.predict_proba(frame).astype(np.float32)}
assert np.array_equal(model.run(tensors)["probabilities"], right["probabilities"])
check_refusals(model, tensors)
check_empty_text_is_missing(model, tensors)
model, *_ = command(artifact, "--parameter", "frame=false")
check_codes(model, right)

fitted = lgb.LGBMRegressor(**options).fit(codes, score, categorical_feature=[1])
fitted.booster_.save_model(artifact)
told = message(ArtifactError, runtime.inspect, artifact, {"frame": True})
assert "'Column_1'" in told and "frame=false" in told
model, found, *_ = command(artifact)
assert not any(each.categories for each in found.features)
assert np.array_equal(model.run({"features": codes})["prediction"], fitted.predict(codes))

ranks = np.clip(score // 15, 0, 4).astype(int)
for fitted in (
    lgb.LGBMRanker(**options).fit(matrix, ranks, group=[10] * 20),
    lgb.LGBMRegressor(objective="quantile", alpha=0.9, **options).fit(matrix, score),
    lgb.LGBMClassifier(**options).fit(matrix, ranks),
    lgb.LGBMClassifier(objective="multiclassova", **options).fit(matrix, ranks),
):
    fitted.booster_.save_model(artifact)
    model, _, described, _ = command(artifact)
    (output,) = described.output_specs()
    asked = fitted.predict_proba if output.name == "probabilities" else fitted.predict
    right = asked(matrix).astype(output.dtype)
    assert np.array_equal(model.run({"features": matrix})[output.name], right)
"""
)
CATBOOST = (
    TREES
    + """
import catboost as cb
from service.core.errors import InvalidTensors

artifact = folder / "own.cbm"
options = dict(iterations=9, verbose=False, allow_writing_files=False, thread_count=1)
texts = frame.astype({"city": object, "zone": object, "color": object})
texts[["city", "color"]] = texts[["city", "color"]].fillna("none")
texts["zone"] = [str(value) for value in texts.zone]
fitted = cb.CatBoostClassifier(**options).fit(
    texts, np.where(score > 45, "yes", "no"), cat_features=["city", "zone", "color"]
)
fitted.save_model(artifact)
model, found, described, told = command(artifact)
assert described.parameters == {"frame": True}, described.parameters
assert "share a batch" in told, told
assert found.classes == ("no", "yes")
assert [(each.name, each.datatype, each.categories, each.optional) for each in found.features] == [
    ("age", "FP32", (), True),
    ("city", "BYTES", (), False),
    ("rooms", "FP32", (), True),
    ("zone", "BYTES", (), False),
    ("garden", "FP32", (), True),
    ("color", "BYTES", (), False),
]
tensors = batch(described, texts)
assert np.allclose(model.run(tensors)["probabilities"], fitted.predict_proba(texts), atol=1e-9)

unseen = texts.assign(city="atlantis", age=np.nan)
unseen["age"] = unseen.age.astype(float)
served = model.run(batch(described, unseen))["probabilities"]
assert np.allclose(served, fitted.predict_proba(unseen), atol=1e-9)
lacking = {**tensors, "city": np.full(len(tensors["city"]), None, object)}
assert "'city'" in message(InvalidTensors, model.run, lacking)
told = message(ArtifactError, runtime.inspect, artifact, {"frame": False})
assert "frame=true" in told

texts["words"] = "some words"
columns = texts.drop(columns=["city", "zone", "color"])
cb.CatBoostRegressor(**options).fit(columns, score, text_features=["words"]).save_model(artifact)
assert "texts or embeddings" in message(ArtifactError, runtime.inspect, artifact, {})
"""
)
SKLEARN = """
from skops.io import dump, get_untrusted_types
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import *
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler,
)
from sklearn.svm import SVC, LinearSVC

artifact = folder / "own.skops"
frame["id"] = np.arange(rows)
frame["note"] = random.choice(["a good \\u014cslo", "bad"], rows)
labels = np.where(score > 45, "yes", "no")

def save(estimator):
    dump(estimator, artifact)
    return "--parameter", "trusted=" + json.dumps(get_untrusted_types(file=artifact))

def check(fitted, given, *options):
    model, found, described, told = command(artifact, *save(fitted), *options)
    tensors = batch(described, given) if described.parameters.get("frame") else {"features": given}
    served = model.run(tensors)
    for name, output in served.items():
        method, _, part = name.partition("_")
        right = getattr(fitted, {
            "probabilities": "predict_proba", "prediction": "predict",
            "scores": "decision_function", "transformed": "transform",
        }[method])(given)
        right = right[int(part)] if part else right
        right = right.toarray() if hasattr(right, "toarray") else right
        if output.dtype == object:
            assert [value.decode() for value in output.ravel()] == list(np.ravel(right))
        else:
            assert np.array_equal(output, np.asarray(right).astype(output.dtype)), name
    return model, found, described, told, tensors
"""
SKLEARN_FRAMES = (
    SKLEARN
    + """
columns = ColumnTransformer([
    ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
    ("s", StandardScaler(), ["rooms"]),
    ("c", OneHotEncoder(), ["city", "zone", "garden"]),
    ("i", make_pipeline(SimpleImputer(strategy="most_frequent"),
                        OneHotEncoder(handle_unknown="ignore")), ["color"]),
    ("t", TfidfVectorizer(), "note"),
])
fitted = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
model, found, described, told, tensors = check(fitted, frame)
assert described.parameters["frame"] is True
assert "share a batch" in told, told
assert [(each.name, each.datatype, each.categories, each.optional) for each in found.features] == [
    ("age", "FP64", (), True),
    ("city", "BYTES", ("oslo", "paris", "rome"), False),
    ("rooms", "FP64", (), False),
    ("zone", "INT64", (10, 20, 30), False),
    ("garden", "BOOL", (), False),
    ("color", "BYTES", ("blue", "red"), True),
    ("note", "BYTES", (), False),
]
assert found.classes == ("no", "yes")
assert [output.name for output in found.outputs] == ["probabilities", "prediction"]
unknown = "is not a category that the model was trained on"
assert refused(model, tensors, "city", 5, b"berlin") == f"row 5, city: {unknown}"
assert refused(model, tensors, "zone", 6, 11) == f"row 6, zone: {unknown}"
assert refused(model, tensors, "rooms", 6, np.nan) == "rooms: must not be missing"
changed = {**tensors, "color": tensors["color"].copy()}
changed["color"][:] = b"green"
assert np.array_equal(
    model.run(changed)["probabilities"],
    fitted.predict_proba(frame.assign(color="green")).astype(np.float32),
)
changed["color"][:] = b""
missing = frame.assign(color=pd.Series([np.nan] * rows, dtype=object))
assert np.array_equal(
    model.run(changed)["probabilities"], fitted.predict_proba(missing).astype(np.float32)
)
without = described.model_copy(update={"parameters": {"trusted": described.parameters["trusted"]}})
told = message(ArtifactError, lambda: runtime.load(artifact, without, threads=1, device="cpu"))
assert "frame=true" in told
tensor = described.inputs[0].model_copy(update={"datatype": "BYTES"})
wrong = described.model_copy(update={"inputs": [tensor, *described.inputs[1:]]})
told = message(ArtifactError, lambda: runtime.load(artifact, wrong, threads=1, device="cpu"))
assert "'age'" in told and "numbers" in told

for encoder, given, text in (
    (OneHotEncoder(), frame[["city", "rooms"]], ["city"]),
    (OrdinalEncoder(), frame[["color", "rooms"]], ["color"]),
    (OneHotEncoder(), frame[["city", "age"]], make_column_selector(dtype_exclude="number")),
):
    mixed = ColumnTransformer([("text", encoder, text)], remainder="passthrough")
    fitted = make_pipeline(mixed, HistGradientBoostingClassifier(max_iter=5)).fit(given, labels)
    _, found, *_ = check(fitted, given)
    assert [each.optional for each in found.features] == [text == ["color"], True]
typed = frame[["age", "city"]].astype({"city": "category"})
boosted = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
check(boosted.fit(typed, labels), typed)
numeric = frame[["rooms", "zone"]]
_, found, described, _, _ = check(Ridge().fit(numeric, score), numeric, "--parameter", "frame=true")
assert [tensor.name for tensor in described.inputs] == ["rooms", "zone"]
model, found, described, told = command(
    artifact, *save(make_pipeline(StandardScaler(), Ridge()).fit(numeric, score))
)
assert [tensor.name for tensor in described.inputs] == ["features"]
assert [each.name for each in found.features] == ["rooms", "zone"]
with contextlib.redirect_stderr(io.StringIO()) as printed:
    served = model.run({"features": numeric.to_numpy(np.float64)})
right = make_pipeline(StandardScaler(), Ridge()).fit(numeric, score).predict(numeric)
assert np.array_equal(served["prediction"], right)
assert "Warning" not in told + printed.getvalue(), told + printed.getvalue()

def area(table):
    return table[["rooms"]].assign(area=table["rooms"] * table["zone"])

with_area = make_pipeline(FunctionTransformer(area), Ridge()).fit(numeric, score)
_, _, described, _, _ = check(with_area, numeric)
assert [tensor.name for tensor in described.inputs] == ["rooms", "zone"]
nameless = Ridge().fit(numeric.to_numpy(), score)
save(nameless)
assert "DataFrame" in message(ArtifactError, runtime.inspect, artifact, {"frame": True})

check(fitted := make_pipeline(columns, Ridge()).fit(frame, score), frame)
described = manifest.read(folder)
sys.modules["pandas"] = None
model = None
told = message(ArtifactError, lambda: runtime.load(artifact, described, threads=1, device="cpu"))
assert "uv add pandas" in told, told
assert "uv add pandas" in message(ArtifactError, runtime.inspect, artifact, described.parameters)
"""
)
SKLEARN_OUTPUTS = (
    SKLEARN
    + """
both = np.column_stack([labels, frame.zone])
several = matrix[:, :1] > [30, 40, 50]
for fitted, names, classes in (
    (LogisticRegression().fit(matrix, labels), ["probabilities", "prediction"], ("no", "yes")),
    (SVC(probability=True).fit(matrix, score > 45), ["probabilities", "prediction"], None),
    (LinearSVC().fit(matrix, labels), ["prediction", "scores"], ("no", "yes")),
    (RandomForestClassifier(3).fit(matrix, both),
     ["probabilities_0", "probabilities_1", "prediction"], ()),
    (RandomForestClassifier(3).fit(matrix, several),
     ["probabilities_0", "probabilities_1", "probabilities_2", "prediction"], ()),
    (MLPClassifier(2, max_iter=2).fit(matrix, several), ["probabilities", "prediction"], ()),
    (RandomForestRegressor(3).fit(matrix, matrix), ["prediction"], ()),
    (HistGradientBoostingRegressor(loss="quantile", quantile=0.9).fit(matrix, score),
     ["prediction"], ()),
    (IsolationForest(n_estimators=3).fit(matrix), ["prediction", "scores"], ()),
    (KMeans(2).fit(matrix), ["prediction"], ()),
    (StandardScaler().fit(matrix), ["transformed"], ()),
    (OneHotEncoder(handle_unknown="ignore").fit(matrix[:, 1:]), ["transformed"], ()),
):
    given = matrix[:, 1:] if isinstance(fitted, OneHotEncoder) else matrix
    model, found, described, _, _ = check(fitted, given)
    assert [output.name for output in described.outputs] == names
    assert classes is None or found.classes == classes
    assert len(found.features) == given.shape[1]

forest = RandomForestClassifier(3).fit(matrix, both)
_, _, described, _, _ = check(forest, matrix, "--output", "probabilities_1:FP32:-1,3")
_, _, described, _, _ = check(
    LogisticRegression().fit(matrix, labels), matrix,
    "--output", "prediction:BYTES:-1", "--output", "scores:FP64:-1",
)
unnamed = described.outputs[0].model_copy(update={"name": "answer"})
wrong = described.model_copy(update={"outputs": [unnamed, described.outputs[1]]})
told = message(ArtifactError, lambda: runtime.load(artifact, wrong, threads=1, device="cpu"))
assert "'answer'" in told and "prediction" in told
model, *_ = command(artifact, *save(LogisticRegression().fit(matrix, labels)),
                    "--output", "answer:FP32:-1,2")
assert list(model.run({"features": matrix})) == ["answer"]
assert "must not be missing" in refused(model, {"features": matrix}, "features", (2, 1), np.nan)
"""
)
SERVED = """
import asyncio
from asgi_lifespan import LifespanManager
import httpx

PREDICT = '''
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"age": 4.0, "city": "rome"}, {"age": None, "city": None}]},
    )

    age: float | None = Field(strict=True)
    city: str | None


class Prediction(BaseModel):
    score: float


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    cities = [None if each.city is None else each.city.encode() for each in instances]
    return {
        "age": np.array([each.age for each in instances], dtype=np.float64),
        "city": np.array(cities, dtype=object),
    }


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(score=score) for score in outputs["prediction"].tolist()]
'''
given = frame[["age", "city"]].copy()
given.loc[::5, "city"] = None
_FIT_
described = manifest.read(folder)
tensors = [{"name": tensor.name, "datatype": tensor.datatype, "shape": [-1]}
           for tensor in described.inputs]
described = described.model_copy(update={"inputs": [
    described.inputs[0].model_copy(update={"datatype": "FP64"}), described.inputs[1]]})
described.write(folder)
Path("src/service/predict.py").write_text(PREDICT, encoding="utf-8")
import os
os.environ["SERVICE_MODEL_DIR"] = str(folder)
from service.main import app

def plain(value):
    return None if pd.isna(value) else value

async def ask():
    async with LifespanManager(app, startup_timeout=60) as running:
        transport = httpx.ASGITransport(running.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for _ in range(600):
                if (await client.get("/v2/health/ready")).status_code == 200:
                    break
                await asyncio.sleep(0.1)
            instances = [{"age": plain(age), "city": plain(city)} for age, city in
                         zip(given.age, given.city)]
            answer = await client.post("/predict", json={"instances": instances})
            assert answer.status_code == 200, answer.text
            found = [each["score"] for each in answer.json()["predictions"]]
            assert np.allclose(found, right, rtol=1e-6), "with null"
            ages = {"name": "age", "datatype": "FP64", "shape": [rows],
                    "data": [each["age"] for each in instances]}
            cities = {"name": "city", "datatype": "BYTES", "shape": [rows],
                      "data": [each["city"] or "" for each in instances]}
            url = "/v2/models/own/infer"
            answer = await client.post(url, json={"inputs": [ages, cities]})
            assert answer.status_code == 200, answer.text
            assert np.allclose(answer.json()["outputs"][0]["data"], right, rtol=1e-6), "under /v2"
            cities["data"] = [each["city"] for each in instances]
            answer = await client.post(url, json={"inputs": [ages, cities]})
            assert answer.status_code == 400, "null text under /v2"
            cities["data"] = ["rome"] * (rows - 1) + ["berlin"]
            answer = await client.post(url, json={"inputs": [ages, cities]})
            assert answer.status_code == 400 and "city" in answer.json()["error"], answer.text
            instances[3]["city"] = "berlin"
            answer = await client.post("/predict", json={"instances": instances})
            assert answer.status_code == 422, answer.text
            (wrong,) = answer.json()["errors"]
            assert "3" in json.dumps(wrong) and "city" in json.dumps(wrong), wrong

asyncio.run(ask())
"""
FITS = {
    "scikit-learn": SKLEARN
    + """
columns = ColumnTransformer([
    ("n", SimpleImputer(), ["age"]),
    ("c", make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None),
                        OneHotEncoder()), ["city"]),
])
given["city"] = given["city"].astype(object).where(given["city"].notna(), None)
fitted = make_pipeline(columns, Ridge()).fit(given, score)
right = fitted.predict(given)
command(artifact, *save(fitted))
""",
    "xgboost": """
import xgboost as xgb
given["city"] = given["city"].astype("category")
fitted = xgb.XGBRegressor(n_estimators=9, enable_categorical=True).fit(given, score)
right = fitted.predict(given)
fitted.save_model(folder / "own.ubj")
command(folder / "own.ubj")
""",
    "lightgbm": """
import lightgbm as lgb
given["city"] = given["city"].astype("category")
fitted = lgb.LGBMRegressor(n_estimators=9, verbose=-1, min_data_per_group=1).fit(given, score)
right = fitted.predict(given)
fitted.booster_.save_model(folder / "own.txt")
command(folder / "own.txt")
""",
}
CASES = {
    "frames-scikit-learn": SKLEARN_FRAMES,
    "outputs-scikit-learn": SKLEARN_OUTPUTS,
    "trees-xgboost": XGBOOST,
    "trees-catboost": CATBOOST,
    "trees-lightgbm": LIGHTGBM,
    **{f"served-{runtime}": SERVED.replace("_FIT_", fit) for runtime, fit in FITS.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_a_table_is_served_as_its_library_predicts(
    case: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    runtime = case.partition("-")[2]
    framework = "fastapi" if runtime == "scikit-learn" else "litestar"
    project = copy_of(Variant(framework, runtime, "uvicorn"))
    (project / "probe.py").write_text(COMMON + CASES[case], encoding="utf-8")
    bench.run([bench.python, "probe.py"], project, timeout=240)
