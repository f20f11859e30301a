import io

import litserve as ls
import numpy as np
import onnxruntime
from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError
from pydantic import Base64Bytes, BaseModel

LABELS = ("cat", "dog", "none")


class Photo(BaseModel):
    image: Base64Bytes


class Animals(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession("models/animals.onnx")

    def decode_request(self, request: Photo) -> np.ndarray:
        try:
            picture = Image.open(io.BytesIO(request.image)).convert("RGB").resize((224, 224))
        except (UnidentifiedImageError, OSError) as error:
            raise HTTPException(422, "is not an image") from error
        return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"pixels": pixels})[0]

    def encode_response(self, probabilities: np.ndarray) -> dict:
        row = probabilities.tolist()
        return {"label": LABELS[row.index(max(row))], "probability": max(row)}


if __name__ == "__main__":
    ls.LitServer(Animals(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
