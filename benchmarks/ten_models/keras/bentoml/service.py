import bentoml
import keras
import numpy as np
from pydantic import BaseModel


class House(BaseModel):
    area: float
    rooms: float
    garden: float


class Prediction(BaseModel):
    price: float


@bentoml.service
class Houses:
    def __init__(self) -> None:
        self.network = keras.saving.load_model("models/houses.keras")

    @bentoml.api(batchable=True)
    def predict(self, instances: list[House]) -> list[Prediction]:
        rows = [(each.area, each.rooms, each.garden) for each in instances]
        prices = self.network.predict_on_batch(np.array(rows, np.float32))
        return [Prediction(price=price) for [price] in prices.tolist()]
