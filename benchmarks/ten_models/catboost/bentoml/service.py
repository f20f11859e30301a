import bentoml
import pandas as pd
from catboost import CatBoostClassifier
from pydantic import BaseModel


class Person(BaseModel):
    age: float | None = None
    city: str


class Prediction(BaseModel):
    label: str
    probabilities: dict[str, float]


@bentoml.service
class Buyers:
    def __init__(self) -> None:
        self.model = CatBoostClassifier().load_model("models/buyers.cbm")

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Person]) -> list[Prediction]:
        table = pd.DataFrame([each.model_dump() for each in instances])
        classes = self.model.classes_.tolist()
        return [
            Prediction(label=classes[row.index(max(row))], probabilities=dict(zip(classes, row)))
            for row in self.model.predict_proba(table.astype({"age": float})).tolist()
        ]
