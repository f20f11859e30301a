"""predict.py for the model of silero-vad: is there speech in a window of sound?

The model has a memory. The client gets it with each answer and sends it with the next window.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.core.tensors import Tensors

RATE = 16_000
WINDOW = 512
BEFORE = 64
MEMORY = 2 * 128


class Instance(BaseModel):
    """``samples``: a window, after the last samples of the one before it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"samples": [0.0, 0.1] * ((BEFORE + WINDOW) // 2)}]}
    )

    samples: Annotated[list[float], Field(min_length=BEFORE + WINDOW, max_length=BEFORE + WINDOW)]
    memory: Annotated[list[float], Field(min_length=MEMORY, max_length=MEMORY)] = [0.0] * MEMORY


class Prediction(BaseModel):
    speech: float
    memory: list[float]


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    memory = np.array([each.memory for each in instances], np.float32)
    return {
        "input": np.array([each.samples for each in instances], np.float32),
        "state": memory.reshape(len(instances), 2, 128).transpose(1, 0, 2),
        "sr": np.array(RATE),
    }


def to_predictions(outputs: Tensors) -> list[Prediction]:
    memory = outputs["stateN"].transpose(1, 0, 2).reshape(-1, MEMORY)
    return [
        Prediction(speech=speech, memory=after)
        for speech, after in zip(outputs["output"][:, 0].tolist(), memory.tolist(), strict=True)
    ]
