from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer("models/minilm")


class Sentence(BaseModel):
    text: str


class Prediction(BaseModel):
    embedding: list[float]


class Request(BaseModel):
    instances: list[Sentence]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(request: Request) -> Response:
    vectors = model.encode([each.text for each in request.instances])
    return Response(predictions=[Prediction(embedding=vector) for vector in vectors.tolist()])


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
