import lightgbm
import litserve as ls
import numpy as np
from pydantic import BaseModel


class Candidate(BaseModel):
    features: dict[str, float]


class Ranker(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.ranker = lightgbm.Booster(model_file="models/ranker.txt")
        self.names = self.ranker.feature_name()

    def decode_request(self, request: Candidate) -> np.ndarray:
        return np.array([request.features.get(name, np.nan) for name in self.names])

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.ranker.predict(rows)

    def encode_response(self, score: np.float64) -> dict:
        return {"prediction": float(score)}


if __name__ == "__main__":
    ls.LitServer(Ranker(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
