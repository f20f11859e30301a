"""An XGBoost classifier with a category, and missing values."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from xgboost import XGBClassifier

random = np.random.default_rng(0)
table = pd.DataFrame(
    {"age": random.uniform(18, 90, 300).round(1), "city": random.choice(["Oslo", "Rome"], 300)}
)
target = ((table["age"] > 50) ^ (table["city"] == "Rome")).astype(int)
table.loc[::7, "age"] = np.nan
table.loc[::5, "city"] = None
table["city"] = table["city"].astype("category")
model = XGBClassifier(n_estimators=5, enable_categorical=True).fit(table, target)
Path("models").mkdir()
model.save_model("models/buyers.ubj")

asked = table.iloc[[0, 1, 5, 7]]
probabilities = model.predict_proba(asked).tolist()
instances = [
    {name: None if pd.isna(value) else value for name, value in row.items()}
    for row in asked.to_dict("records")
]
expected = {
    "instances": instances,
    "predictions": [
        {"label": row.index(max(row)), "probabilities": {"0": row[0], "1": row[1]}}
        for row in probabilities
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
