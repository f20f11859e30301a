import io

import litserve as ls
import numpy as np
import onnxruntime
from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError
from pydantic import Base64Bytes, BaseModel


class Picture(BaseModel):
    image: Base64Bytes


class Detector(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession("models/detector.onnx")

    def decode_request(self, request: Picture) -> np.ndarray:
        try:
            picture = Image.open(io.BytesIO(request.image)).convert("L").resize((64, 64))
        except (UnidentifiedImageError, OSError) as error:
            raise HTTPException(422, "is not an image") from error
        return np.asarray(picture, np.float32)[None, None] / 255

    def predict(self, pixels: np.ndarray) -> dict:
        boxes, scores = self.session.run(["boxes", "scores"], {"image": pixels})
        return {"boxes": boxes.tolist(), "scores": scores.tolist()}


if __name__ == "__main__":
    ls.LitServer(Detector()).run(port=8000)
