import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

session = onnxruntime.InferenceSession("models/customers.onnx")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, sqlite3.Connection]]:
    with closing(sqlite3.connect("customers.db", check_same_thread=False)) as store:
        yield {"store": store}


app = FastAPI(lifespan=lifespan)


class Customer(BaseModel):
    customer: int
    basket: float


class Prediction(BaseModel):
    value: float


class Customers(BaseModel):
    instances: list[Customer]


class Response(BaseModel):
    predictions: list[Prediction]


@app.post("/predict")
def predict(customers: Customers, request: Request) -> Response:
    rows = []
    for index, each in enumerate(customers.instances):
        query = "SELECT visits, spent FROM customers WHERE id = ?"
        known = request.state.store.execute(query, [each.customer]).fetchone()
        if known is None:
            raise HTTPException(422, f"instances.{index}.customer is not a customer")
        rows.append([each.basket, *known])
    [values] = session.run(["value"], {"features": np.array(rows, np.float32)})
    return Response(predictions=[Prediction(value=value) for [value] in values.tolist()])


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}
