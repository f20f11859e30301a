import bentoml
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Sentence(BaseModel):
    text: str


class Prediction(BaseModel):
    embedding: list[float]


@bentoml.service
class Embedding:
    def __init__(self) -> None:
        self.model = SentenceTransformer("models/minilm")

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Sentence]) -> list[Prediction]:
        vectors = self.model.encode([each.text for each in instances])
        return [Prediction(embedding=vector) for vector in vectors.tolist()]
