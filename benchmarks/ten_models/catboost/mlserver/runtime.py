from typing import List

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier
from mlserver import MLModel
from mlserver.codecs import decode_args


class Buyers(MLModel):
    async def load(self) -> bool:
        self.model = CatBoostClassifier().load_model(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, age: np.ndarray, city: List[str]) -> np.ndarray:
        table = pd.DataFrame({"age": age.ravel(), "city": city})
        return self.model.predict_proba(table.astype({"age": float}))
