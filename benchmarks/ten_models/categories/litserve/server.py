from typing import Literal, get_args

import litserve as ls
import pandas as pd
from pydantic import BaseModel
from xgboost import XGBClassifier

City = Literal["Oslo", "Rome"]


class Person(BaseModel):
    age: float | None = None
    city: City | None = None


class Buyers(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = XGBClassifier()
        self.model.load_model("models/buyers.ubj")

    def decode_request(self, request: Person) -> dict:
        return request.model_dump()

    def predict(self, rows: list[dict]) -> list[dict]:
        table = pd.DataFrame(rows)
        table = table.astype({"age": float, "city": pd.CategoricalDtype(get_args(City))})
        return [
            {"label": row.index(max(row)), "probabilities": dict(zip("01", row))}
            for row in self.model.predict_proba(table).tolist()
        ]


if __name__ == "__main__":
    ls.LitServer(Buyers(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
