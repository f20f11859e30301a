import sqlite3

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import decode_args
from mlserver.errors import InferenceError


class Customers(MLModel):
    async def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        self.store = sqlite3.connect("customers.db", check_same_thread=False)
        return True

    async def unload(self) -> bool:
        self.store.close()
        return True

    @decode_args
    async def predict(self, customer: np.ndarray, basket: np.ndarray) -> np.ndarray:
        rows = []
        for number, value in zip(customer.ravel().tolist(), basket.ravel().tolist()):
            query = "SELECT visits, spent FROM customers WHERE id = ?"
            known = self.store.execute(query, [number]).fetchone()
            if known is None:
                raise InferenceError(f"{number} is not a customer")
            rows.append([value, *known])
        return self.session.run(["value"], {"features": np.array(rows, np.float32)})[0]
