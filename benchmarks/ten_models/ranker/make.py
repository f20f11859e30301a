"""A LightGBM ranker of 200 features, of which each may be missing."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from lightgbm import LGBMRanker

random = np.random.default_rng(0)
names = [f"feature_{index}" for index in range(200)]
table = pd.DataFrame(random.uniform(0, 1, (500, 200)), columns=names)
relevance = (table["feature_3"] * 4).astype(int)
table = table.mask(random.uniform(0, 1, table.shape) < 0.1)
model = LGBMRanker(n_estimators=5, verbose=-1).fit(table, relevance, group=[10] * 50)
Path("models").mkdir()
model.booster_.save_model("models/ranker.txt")

asked = table.iloc[:4]
scores = model.predict(asked).tolist()
rows = [[None if np.isnan(value) else value for value in row] for row in asked.to_numpy().tolist()]
expected = {
    "instances": [
        {
            "features": {
                name: value for name, value in zip(names, row, strict=True) if value is not None
            }
        }
        for row in rows
    ],
    "predictions": [{"prediction": score} for score in scores],
    "tensors": {
        "inputs": [{"name": "features", "datatype": "FP64", "data": rows}],
        "output": scores,
    },
}
Path("expected.json").write_text(json.dumps(expected))
