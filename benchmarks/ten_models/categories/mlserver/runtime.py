from typing import List

import numpy as np
import pandas as pd
from mlserver import MLModel
from mlserver.codecs import decode_args
from xgboost import XGBClassifier

CITIES = ["Oslo", "Rome"]


class Buyers(MLModel):
    async def load(self) -> bool:
        self.model = XGBClassifier()
        self.model.load_model(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, age: np.ndarray, city: List[str]) -> np.ndarray:
        table = pd.DataFrame({"age": age.ravel(), "city": city})
        table = table.astype({"age": float, "city": pd.CategoricalDtype(CITIES)})
        return self.model.predict_proba(table)
