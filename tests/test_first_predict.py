"""A first predict.py from the artifact: straight after it, lint, types and tests are green."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ALL_VARIANTS, EVERY_VARIANT
from plans import ROWS, WHOLE

from inferplate.template.variants import WITHOUT_HANDLER, Variant
from inferplate_tools.client import alike, ask, post_json
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

SEEDED = ("src/service/predict.py", "tests/golden.json", "tests/test_model.py")
EXAMPLES = [
    variant
    for variant in EVERY_VARIANT
    if (variant.framework, variant.server) == ("fastapi", "uvicorn")
    and variant.task != WITHOUT_HANDLER
]
"""One for each runtime and task."""

TABLE = """
import numpy as np, pandas as pd
from pathlib import Path
random = np.random.default_rng(0)
size = 300
table = pd.DataFrame({
    "age (years)": random.uniform(18, 90, size).round(1),
    "city": random.choice(["Rome", "Oslo", "it's"], size),
    "class": random.integers(0, 9, size).astype(float),
})
target = (table["age (years)"] > 50) ^ (table["city"] == "Rome")
table.loc[::7, "age (years)"] = np.nan
folder = Path("models")
folder.mkdir(exist_ok=True)
"""
XGBOOST_TABLE = (
    TABLE
    + """
from xgboost import XGBClassifier
table["city"] = table["city"].astype("category")
XGBClassifier(n_estimators=5, enable_categorical=True).fit(table, target).save_model(
    folder / "own.ubj"
)
"""
)
LIGHTGBM_TABLE = (
    TABLE
    + """
from lightgbm import LGBMClassifier
table["city"] = table["city"].astype("category")
model = LGBMClassifier(n_estimators=5, verbose=-1).fit(table, target)
model.booster_.save_model(folder / "own.txt")
"""
)
CATBOOST_TABLE = (
    TABLE
    + """
from catboost import CatBoostClassifier
options = dict(iterations=5, verbose=False, allow_writing_files=False, cat_features=["city"])
CatBoostClassifier(**options).fit(table, target).save_model(folder / "own.cbm")
"""
)
PIPELINE = (
    TABLE
    + """
from skops.io import dump
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
columns = make_column_transformer(
    (SimpleImputer(), ["age (years)", "class"]), (OneHotEncoder(), ["city"])
)
labels = np.where(target, "yes", "no")
dump(make_pipeline(columns, LogisticRegression()).fit(table, labels), folder / "own.skops")
"""
)
MATRIX = """
from pathlib import Path
from skops.io import dump
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
Path("models").mkdir(exist_ok=True)
features, target = load_diabetes(return_X_y=True, as_frame=True)
dump(Ridge().fit(features, target), "models/own.skops")
"""
WIDE = """
from pathlib import Path
import numpy as np, pandas as pd
from skops.io import dump
from sklearn.linear_model import Ridge
random = np.random.default_rng(0)
names = [f"feature {index}" for index in range(99)]
table = pd.DataFrame(random.normal(size=(300, 99)), columns=names)
Path("models").mkdir(exist_ok=True)
dump(Ridge().fit(table, table @ np.arange(99)), "models/own.skops")
"""
RANKER = """
from pathlib import Path
import numpy as np
from xgboost import DMatrix, train
random = np.random.default_rng(0)
rows = random.uniform(0, 1, (100, 200)).astype(np.float32)
names = [f"feature {index}" for index in range(200)]
data = DMatrix(rows, rows[:, 0] > 0.5, feature_names=names, qid=np.arange(100) // 10)
Path("models").mkdir(exist_ok=True)
train({"objective": "rank:ndcg"}, data, 5).save_model("models/own.ubj")
"""
DETECTOR = """
from pathlib import Path
import onnx
from onnx import TensorProto as T, helper as h
x, rate = ("x", T.FLOAT, ["N", 3]), ("rate", T.FLOAT, [])
nodes = [
    h.make_node("Greater", ["x", "rate"], ["m"]), h.make_node("NonZero", ["m"], ["i"]),
    h.make_node("Transpose", ["i"], ["23"], perm=[1, 0]),
]
infos = [[h.make_tensor_value_info(*each) for each in side]
         for side in ([x, rate], [("23", T.INT64, ["num_dets", 2])])]
graph = h.make_graph(nodes, "g", *infos)
Path("models").mkdir(exist_ok=True)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
onnx.save(model, "models/own.onnx")
"""
SEQUENCE = """
from pathlib import Path
import torch
class Network(torch.nn.Module):
    def forward(self, ids):
        return ids.float().mean(1)
shapes = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
Path("models").mkdir(exist_ok=True)
ids = torch.ones(3, 5, dtype=torch.int64)
program = torch.export.export(Network(), (ids,), dynamic_shapes=shapes)
torch.export.save(program, "models/own.pt2")
"""
ASK_ONE = """
import json, sys
import pandas as pd

good, file = json.loads(sys.argv[1]), sys.argv[2]
"""
ASK_RIDGE = (
    ASK_ONE
    + """
from skops.io import load

row = pd.DataFrame([good.get("features", good)])
print(json.dumps({"prediction": load(file).predict(row)[0]}))
"""
)
ASK_XGBOOST = (
    ASK_ONE
    + """
from xgboost import XGBClassifier

city = pd.Categorical([good["city"]], categories=["Oslo", "Rome", "it's"])
row = pd.DataFrame({"age (years)": [float("nan")], "city": city, "class": [float("nan")]})
model = XGBClassifier()
model.load_model(file)
print(json.dumps({"label": int(model.predict(row)[0])}))
"""
)
ASK_TRANSFORMERS = (
    ASK_ONE
    + """
from transformers import pipeline

(found,) = pipeline("text-classification", model=file)(good["text"])
print(json.dumps({"label": found["label"]}))
"""
)
COLUMNS = ("sepal_length", "sepal width (cm)", "petal_length", "petal_width")


@dataclass(frozen=True)
class Case:
    """A model, and what its first predict.py makes of it.

    ``train``: makes the artifact; without it, the example's is taken. ``good`` is answered;
    ``bad`` has a field that is refused, by its name, and for a ``reason`` that has these words.
    ``library``: prints what the library itself answers to ``good``.
    """

    variant: Variant
    train: str
    options: tuple[str, ...]
    good: dict[str, Any]
    bad: dict[str, Any]
    refused: str
    reason: str = ""
    library: str = ""
    answered: set[str] = field(default_factory=set)


FOLDER = """
import torch
from train import make_tokenizer, sentences
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification
from transformers import BertModel

torch.manual_seed(0)
tokenizer = make_tokenizer([text for text, _ in sentences()])
options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
options |= {"intermediate_size": 16, "initializer_range": 0.5, "vocab_size": len(tokenizer)}

def save(network):
    network.save_pretrained("models/folder")
    tokenizer.save_pretrained("models/folder")

"""
RERANKER = FOLDER + "save(BertForSequenceClassification(BertConfig(num_labels=1, **options)))"
ENTITIES = FOLDER + "save(BertForTokenClassification(BertConfig(num_labels=3, **options)))"
EMBEDDING = (
    FOLDER
    + """
from sentence_transformers import SentenceTransformer, models

save(BertModel(BertConfig(**options)))
transformer = models.Transformer("models/folder", max_seq_length=32)
modules = [transformer, models.Pooling(16), models.Normalize()]
SentenceTransformer(modules=modules).save_pretrained("models/folder")
"""
)


def case(framework: str, runtime: str, server: str, train: str, *options: str, **rest: Any) -> Any:
    return Case(Variant(framework, runtime, server), train, options, **rest)


MEASURED = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
IRIS = {"sepal_length": 5.1, "sepal_width_cm": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ROW = {"age_years": 30.5, "city": "Rome", "class_": 3}
CASES = {
    "iris with names": case(
        *("litestar", "onnxruntime", "uvicorn", "", f"--columns={','.join(COLUMNS)}"),
        good=IRIS,
        bad={**IRIS, "sepal_width_cm": 1e39},
        refused="sepal_width_cm",
        answered={"probabilities"},
    ),
    "categories of XGBoost": case(
        *("ninja", "xgboost", "granian", XGBOOST_TABLE),
        good={"city": "Rome"},
        bad={**ROW, "city": "Atlantis"},
        refused="city",
        reason="Input should be 'Oslo', 'Rome' or ",
        library=ASK_XGBOOST,
        answered={"label", "probabilities"},
    ),
    "categories of LightGBM": case(
        *("fastapi", "lightgbm", "uvicorn", LIGHTGBM_TABLE),
        good={**ROW, "age_years": None},
        bad={**ROW, "city": "Atlantis"},
        refused="city",
        reason="Input should be 'Oslo', 'Rome' or ",
        answered={"probabilities"},
    ),
    "categories of CatBoost": case(
        *("litestar", "catboost", "hypercorn", CATBOOST_TABLE),
        good={**ROW, "age_years": None, "city": "Atlantis"},
        bad={**ROW, "city": None},
        refused="city",
        answered={"label", "probabilities"},
    ),
    "pipeline on a DataFrame": case(
        *("fastapi", "scikit-learn", "uvicorn", PIPELINE),
        *("--write-predict", '--parameter=trusted=["numpy.dtype"]'),
        good={**ROW, "age_years": None},
        bad={**ROW, "city": "Atlantis"},
        refused="city",
        reason="Input should be 'Oslo', 'Rome' or ",
        answered={"prediction", "probabilities"},
    ),
    "matrix": case(
        *("litestar", "scikit-learn", "hypercorn", MATRIX),
        good={name: place / 100 for place, name in enumerate(MEASURED)},
        bad=dict.fromkeys(MEASURED[:-1], 0.1),
        refused="s6",
        library=ASK_RIDGE,
        answered={"prediction"},
    ),
    "99 columns that must be there": case(
        *("fastapi", "scikit-learn", "uvicorn", WIDE),
        good={"features": {f"feature {place}": place / 10 for place in range(99)}},
        bad={"features": {f"feature {place}": 0.5 for place in range(98)}},
        refused="features",
        reason="'feature 98' is missing",
        library=ASK_RIDGE,
        answered={"prediction"},
    ),
    "200 columns": case(
        *("fastapi", "xgboost", "gunicorn", RANKER),
        good={"features": {"feature 3": 0.5}},
        bad={"features": {"feature 200": 0.5}},
        refused="features",
        answered={"prediction"},
    ),
    "detector": case(
        *("ninja", "onnxruntime", "uvicorn", DETECTOR),
        *("--input=rate:FP32:", "--rename=23=boxes", "--write-predict"),
        good={"x": [[0.1, 0.9, 0.2]], "rate": 0.5},
        bad={"x": [[0.1, 0.9]], "rate": 0.5},
        refused="x",
        answered={"boxes"},
    ),
    "sequence": case(
        *("litestar", "pytorch", "granian", SEQUENCE),
        good={"ids": [1, 2, 3]},
        bad={"ids": []},
        refused="ids",
        answered={"output_0"},
    ),
    "text": case(
        *("fastapi", "transformers", "uvicorn", ""),
        good={"text": "The weather was lovely."},
        bad={"text": 3},
        refused="text",
        library=ASK_TRANSFORMERS,
        answered={"label", "probabilities"},
    ),
    "embedding": case(
        *("litestar", "transformers", "uvicorn", EMBEDDING),
        good={"text": "The weather was lovely."},
        bad={"text": None},
        refused="text",
        answered={"embedding", "tokens"},
    ),
    "entities": case(
        *("ninja", "transformers", "uvicorn", ENTITIES),
        good={"text": "The weather was lovely."},
        bad={"text": 3},
        refused="text",
        answered={"entities"},
    ),
    "pairs": case(
        *("fastapi", "transformers", "granian", RERANKER),
        *("--parameter=pairs=true", "--write-predict"),
        good={"text": "What was lovely?", "text_pair": "The weather was."},
        bad={"text": "What was lovely?", "text_pair": 3},
        refused="text_pair",
        answered={"score"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_straight_after_it_everything_is_green(
    name: str, copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    case = CASES[name]
    project = copy_of(case.variant)
    described = json.loads((project / "models/manifest.json").read_bytes())
    file = project / "models" / described["file"]
    if case.train:
        shutil.rmtree(project / "models")
        bench.run([bench.python, "-c", case.train], project, timeout=120)
        (file,) = (project / "models").iterdir()
    command = ["manifest", f"models/{file.name}", "--name", "own", "--version", "1"]
    options = case.options or ("--write-predict",)
    said = bench.run([bench.python, "-m", "service", *command, *options], project, timeout=120)
    assert "wrote src/service/predict.py, tests/golden.json, and the tolerance" in said
    check_code(bench, project, "src/service/predict.py", "tests")
    tests = ["tests/test_model.py", "tests/managed/test_openapi.py", "tests/managed/test_routes.py"]
    bench.run([bench.python, "-m", "pytest", "-q", "-p", "no:copie", *tests], project, timeout=300)
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        answer = post_json(service.port, "/predict", {"instances": [case.good, case.good]})
        assert answer.status == 200, answer.body
        first, second = answer.json()["predictions"]
        assert first == second
        assert first.keys() == case.answered
        if case.library:
            arguments = [json.dumps(case.good), f"models/{file.name}"]
            ask_library = [bench.python, "-c", case.library, *arguments]
            printed = bench.run(ask_library, project, timeout=120)
            for name, value in json.loads(printed.splitlines()[-1]).items():
                assert alike(first[name], value, 1e-5)
        answer = post_json(service.port, "/predict", {"instances": [case.good, case.bad]})
        assert answer.status == 422, answer.body
        (error,) = answer.json()["errors"]
        assert case.refused in error["field"]
        assert case.reason in error["reason"]
        assert ask(service.port, "GET", "/docs").status == 200
        assert ask(service.port, "GET", "/v2/models/own").status == 200


def check_code(bench: Workbench, project: Path, *paths: str) -> None:
    """Lint, check the format and the types."""
    for arguments in (["check"], ["format", "--check"]):
        command = [bench.python, "-m", "ruff", *arguments, "--no-cache", *paths]
        bench.run(command, project, timeout=60)
    with bench.mypy(*paths) as command:
        bench.run(command, project, timeout=300)


@pytest.mark.slow
def test_what_is_written_for_any_model_is_formatted_linted_and_typed(
    copy_of: Callable[[Variant], Path], bench: Workbench
) -> None:
    project = copy_of(ALL_VARIANTS[0])
    plans = Path(__file__).with_name("plans.py")
    bench.run([bench.python, str(plans), "src/plans"], project, timeout=120)
    assert len(list((project / "src/plans").iterdir())) == len(ROWS) + len(WHOLE)
    check_code(bench, project, "src/plans")


def test_the_service_knows_what_the_template_emits_of_the_owners_files(bench: Workbench) -> None:
    """A text that is known stays known: projects may still have that of an older version."""
    scaffold = bench.template() / "template/service/src/service/scaffold"
    known = json.loads((scaffold / "seeds.json").read_bytes())
    for variant in EXAMPLES:
        for name in SEEDED:
            emitted = (bench.project(variant) / name).read_bytes()
            assert hashlib.sha256(emitted).hexdigest() in known[name], f"add {name} of {variant}"
