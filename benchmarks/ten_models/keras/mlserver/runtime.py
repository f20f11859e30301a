import keras
import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args


class Houses(MLModel):
    async def load(self) -> bool:
        self.network = keras.saving.load_model(self.settings.parameters.uri)
        return True

    @decode_args
    async def predict(self, houses: np.ndarray) -> np.ndarray:
        return self.network.predict_on_batch(houses)
