import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, UploadFile
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel

app = FastAPI()
session = onnxruntime.InferenceSession("models/detector.onnx")


class Prediction(BaseModel):
    boxes: list[list[float]]
    scores: list[float]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(image: list[UploadFile]) -> Response:
    predictions = []
    for each in image:
        try:
            picture = Image.open(each.file).convert("L").resize((64, 64))
        except (UnidentifiedImageError, OSError) as error:
            raise HTTPException(422, "is not an image") from error
        pixels = np.asarray(picture, np.float32)[None, None] / 255
        boxes, scores = session.run(["boxes", "scores"], {"image": pixels})
        predictions.append(Prediction(boxes=boxes.tolist(), scores=scores.tolist()))
    return Response(predictions=predictions)


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
