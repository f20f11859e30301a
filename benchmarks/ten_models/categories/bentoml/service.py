from typing import Literal, get_args

import bentoml
import pandas as pd
from pydantic import BaseModel
from xgboost import XGBClassifier

City = Literal["Oslo", "Rome"]


class Person(BaseModel):
    age: float | None = None
    city: City | None = None


class Prediction(BaseModel):
    label: int
    probabilities: dict[str, float]


@bentoml.service
class Buyers:
    def __init__(self) -> None:
        self.model = XGBClassifier()
        self.model.load_model("models/buyers.ubj")

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Person]) -> list[Prediction]:
        table = pd.DataFrame([each.model_dump() for each in instances])
        table = table.astype({"age": float, "city": pd.CategoricalDtype(get_args(City))})
        return [
            Prediction(label=row.index(max(row)), probabilities=dict(zip("01", row)))
            for row in self.model.predict_proba(table).tolist()
        ]
