from typing import Literal

import joblib
import litserve as ls
import pandas as pd
from pydantic import BaseModel


class Passenger(BaseModel):
    age: float | None = None
    fare: float | None = None
    city: Literal["Oslo", "Rome"] | None = None


class Survival(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.pipeline = joblib.load("models/survival.joblib")

    def decode_request(self, request: Passenger) -> dict:
        return request.model_dump()

    def predict(self, rows: list[dict]) -> list[dict]:
        table = pd.DataFrame(rows).astype({"age": float, "fare": float, "city": "str"})
        probabilities = self.pipeline.predict_proba(table).tolist()
        return [
            {"prediction": label, "probabilities": dict(zip(self.pipeline.classes_, row))}
            for label, row in zip(self.pipeline.predict(table), probabilities)
        ]


if __name__ == "__main__":
    ls.LitServer(Survival(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
