import litserve as ls
import pandas as pd
from catboost import CatBoostClassifier
from pydantic import BaseModel


class Person(BaseModel):
    age: float | None = None
    city: str


class Buyers(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = CatBoostClassifier().load_model("models/buyers.cbm")
        self.classes = self.model.classes_.tolist()

    def decode_request(self, request: Person) -> dict:
        return request.model_dump()

    def predict(self, rows: list[dict]) -> list[dict]:
        table = pd.DataFrame(rows).astype({"age": float})
        return [
            {
                "label": self.classes[row.index(max(row))],
                "probabilities": dict(zip(self.classes, row)),
            }
            for row in self.model.predict_proba(table).tolist()
        ]


if __name__ == "__main__":
    ls.LitServer(Buyers(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
