import litserve as ls
import numpy as np
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Sentence(BaseModel):
    text: str


class Embedding(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = SentenceTransformer("models/minilm", device=device)

    def decode_request(self, request: Sentence) -> str:
        return request.text

    def predict(self, texts: list[str]) -> np.ndarray:
        return self.model.encode(texts)

    def encode_response(self, vector: np.ndarray) -> dict:
        return {"embedding": vector.tolist()}


if __name__ == "__main__":
    ls.LitServer(Embedding(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
