"""A pipeline of scikit-learn on a DataFrame, with texts and missing values."""

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

random = np.random.default_rng(0)
table = pd.DataFrame(
    {
        "age": random.uniform(1, 80, 400).round(),
        "fare": random.uniform(5, 500, 400).round(2),
        "city": random.choice(["Oslo", "Rome"], 400),
    }
)
survived = np.where((table["age"] < 30) ^ (table["city"] == "Rome"), "yes", "no")
table.loc[::7, "age"] = np.nan
table.loc[::5, "city"] = None
columns = make_column_transformer((SimpleImputer(), ["age", "fare"]), (OneHotEncoder(), ["city"]))
pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(table, survived)
Path("models").mkdir()
joblib.dump(pipeline, "models/survival.joblib")
skops.io.dump(pipeline, "models/survival.skops")

asked = table.iloc[[0, 1, 5, 7]]
probabilities = pipeline.predict_proba(asked)
instances = [
    {name: None if pd.isna(value) else value for name, value in row.items()}
    for row in asked.to_dict("records")
]
expected = {
    "instances": instances,
    "predictions": [
        {"prediction": label, "probabilities": dict(zip(("no", "yes"), row, strict=True))}
        for label, row in zip(pipeline.predict(asked), probabilities.tolist(), strict=True)
    ],
    "tensors": {
        "inputs": [
            {"name": name, "datatype": datatype, "data": [each[name] for each in instances]}
            for name, datatype in (("age", "FP64"), ("fare", "FP64"), ("city", "BYTES"))
        ],
        "output": pipeline.predict_proba(asked).tolist(),
    },
}
Path("expected.json").write_text(json.dumps(expected))
