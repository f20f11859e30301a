from typing import Annotated

import litserve as ls
import numpy as np
import onnxruntime
from pydantic import BaseModel, Field


class Sequence(BaseModel):
    ids: Annotated[list[int], Field(min_length=1)]


class Sequences(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession("models/sequences.onnx")

    def decode_request(self, request: Sequence) -> np.ndarray:
        return np.array([request.ids], np.int64)

    def predict(self, ids: np.ndarray) -> np.ndarray:
        return self.session.run(["scores"], {"ids": ids})[0]

    def encode_response(self, scores: np.ndarray) -> dict:
        return {"scores": scores[0].tolist()}


if __name__ == "__main__":
    ls.LitServer(Sequences()).run(port=8000)
