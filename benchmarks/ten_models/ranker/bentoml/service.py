import bentoml
import lightgbm
import numpy as np
from pydantic import BaseModel


class Candidate(BaseModel):
    features: dict[str, float]


class Prediction(BaseModel):
    prediction: float


@bentoml.service
class Ranker:
    def __init__(self) -> None:
        self.ranker = lightgbm.Booster(model_file="models/ranker.txt")
        self.names = self.ranker.feature_name()

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Candidate]) -> list[Prediction]:
        rows = [[each.features.get(name, np.nan) for name in self.names] for each in instances]
        scores = self.ranker.predict(np.array(rows)).tolist()
        return [Prediction(prediction=score) for score in scores]
