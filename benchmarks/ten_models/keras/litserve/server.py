import keras
import litserve as ls
import numpy as np
from pydantic import BaseModel


class House(BaseModel):
    area: float
    rooms: float
    garden: float


class Houses(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.network = keras.saving.load_model("models/houses.keras")

    def decode_request(self, request: House) -> np.ndarray:
        return np.array([request.area, request.rooms, request.garden], np.float32)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.network.predict_on_batch(rows)

    def encode_response(self, price: np.ndarray) -> dict:
        return {"price": float(price[0])}


if __name__ == "__main__":
    ls.LitServer(Houses(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
