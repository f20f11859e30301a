"""Customers, and what they are going to spend."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing

import numpy as np
from pydantic import BaseModel, ConfigDict

from service.core.errors import Refused
from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"customer": 1, "basket": 20.0}]})

    customer: int
    basket: float


class Prediction(BaseModel):
    value: float


@asynccontextmanager
async def resources() -> AsyncIterator[sqlite3.Connection]:
    with closing(sqlite3.connect("customers.db", check_same_thread=False)) as store:
        yield store


def to_tensors(instances: Sequence[Instance], store: sqlite3.Connection) -> Tensors:
    rows = []
    for index, each in enumerate(instances):
        query = "SELECT visits, spent FROM customers WHERE id = ?"
        known = store.execute(query, [each.customer]).fetchone()
        if known is None:
            raise Refused("is not a customer", field="customer", instance=index)
        rows.append([each.basket, *known])
    return {"features": np.array(rows, np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [Prediction(value=value) for [value] in outputs["value"].tolist()]
