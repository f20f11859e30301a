import sqlite3

import litserve as ls
import numpy as np
import onnxruntime
from fastapi import HTTPException
from pydantic import BaseModel


class Customer(BaseModel):
    customer: int
    basket: float


class Customers(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession("models/customers.onnx")
        self.store = sqlite3.connect("customers.db", check_same_thread=False)

    def decode_request(self, request: Customer) -> np.ndarray:
        query = "SELECT visits, spent FROM customers WHERE id = ?"
        known = self.store.execute(query, [request.customer]).fetchone()
        if known is None:
            raise HTTPException(422, "customer is not a customer")
        return np.array([request.basket, *known], np.float32)

    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.session.run(["value"], {"features": features})[0]

    def encode_response(self, value: np.ndarray) -> dict:
        return {"value": float(value[0])}


if __name__ == "__main__":
    ls.LitServer(Customers(max_batch_size=64, batch_timeout=0.01)).run(port=8000)
