"""A CatBoost classifier with a category, and missing numbers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier

random = np.random.default_rng(0)
table = pd.DataFrame(
    {"age": random.uniform(18, 90, 300).round(1), "city": random.choice(["Oslo", "Rome"], 300)}
)
target = np.where((table["age"] > 50) ^ (table["city"] == "Rome"), "yes", "no")
table.loc[::7, "age"] = np.nan
model = CatBoostClassifier(
    iterations=5, verbose=False, allow_writing_files=False, cat_features=["city"]
).fit(table, target)
Path("models").mkdir()
model.save_model("models/buyers.cbm")

asked = table.iloc[[0, 1, 2, 7]]
probabilities = model.predict_proba(asked).tolist()
instances = [
    {name: None if pd.isna(value) else value for name, value in row.items()}
    for row in asked.to_dict("records")
]
expected = {
    "instances": instances,
    "predictions": [
        {"label": "yes" if yes > no else "no", "probabilities": {"no": no, "yes": yes}}
        for no, yes in probabilities
    ],
    "tensors": {
        "inputs": [
            {"name": name, "datatype": datatype, "data": [each[name] for each in instances]}
            for name, datatype in (("age", "FP64"), ("city", "BYTES"))
        ],
        "output": probabilities,
    },
}
Path("expected.json").write_text(json.dumps(expected))
