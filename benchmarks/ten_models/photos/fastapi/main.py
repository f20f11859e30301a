import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, UploadFile
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel

LABELS = ("cat", "dog", "none")

app = FastAPI()
session = onnxruntime.InferenceSession("models/animals.onnx")


class Prediction(BaseModel):
    label: str
    probability: float


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(image: list[UploadFile]) -> Response:
    try:
        pictures = [Image.open(each.file).convert("RGB").resize((224, 224)) for each in image]
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(422, "is not an image") from error
    pixels = np.stack([np.asarray(each) for each in pictures]).transpose(0, 3, 1, 2)
    [probabilities] = session.run(["probabilities"], {"pixels": pixels.astype(np.float32) / 255})
    return Response(
        predictions=[
            Prediction(label=LABELS[row.index(max(row))], probability=max(row))
            for row in probabilities.tolist()
        ]
    )


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
