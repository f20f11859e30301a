"""Names in JSON that are not those of the fields."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.core.tensors import Tensors


class Instance(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        json_schema_extra={"examples": [{"livingArea": 5.0, "roomCount": 2}]},
    )

    living_area: float
    room_count: int


class Prediction(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    price_total: float
    low_price: float = Field(serialization_alias="from")


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = [(each.living_area, each.room_count) for each in instances]
    return {"features": np.array(rows, dtype=np.float32)}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    return [
        Prediction(price_total=total, low_price=total / 2) for total in outputs["total"].tolist()
    ]
