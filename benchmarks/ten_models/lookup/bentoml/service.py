import sqlite3

import bentoml
import numpy as np
import onnxruntime
from bentoml.exceptions import InvalidArgument
from pydantic import BaseModel


class Customer(BaseModel):
    customer: int
    basket: float


class Prediction(BaseModel):
    value: float


@bentoml.service
class Customers:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession("models/customers.onnx")
        self.store = sqlite3.connect("customers.db", check_same_thread=False)

    @bentoml.on_shutdown
    def close(self) -> None:
        self.store.close()

    @bentoml.api(batchable=True)
    def predict(self, instances: list[Customer]) -> list[Prediction]:
        rows = []
        for index, each in enumerate(instances):
            query = "SELECT visits, spent FROM customers WHERE id = ?"
            known = self.store.execute(query, [each.customer]).fetchone()
            if known is None:
                raise InvalidArgument(f"instances.{index}.customer is not a customer")
            rows.append([each.basket, *known])
        [values] = self.session.run(["value"], {"features": np.array(rows, np.float32)})
        return [Prediction(value=value) for [value] in values.tolist()]
