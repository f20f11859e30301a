"""A network of Keras on three numbers; run it with KERAS_BACKEND=torch."""

import json
from pathlib import Path

import keras
import numpy as np

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
Path("models").mkdir()
model.save("models/houses.keras")

houses = [
    {"area": 100.0, "rooms": 4.0, "garden": 1.0},
    {"area": 50.0, "rooms": 2.0, "garden": 0.0},
]
rows = [list(house.values()) for house in houses]
prices = model.predict_on_batch(np.array(rows, np.float32))[:, 0].tolist()
expected = {
    "instances": houses,
    "predictions": [{"price": price} for price in prices],
    "tensors": {
        "inputs": [{"name": "houses", "datatype": "FP32", "data": rows}],
        "output": prices,
    },
}
Path("expected.json").write_text(json.dumps(expected))
