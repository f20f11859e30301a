"""predict.py for the model of magika: what kind of file is it?"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Base64Bytes, BaseModel, ConfigDict

from service.core.errors import Refused
from service.core.tensors import Tensors

CONFIG = json.loads((Path(__file__).parents[2] / "models/config.min.json").read_bytes())
BLOCK, SIZE, PADDING = CONFIG["block_size"], CONFIG["beg_size"], CONFIG["padding_token"]


class Instance(BaseModel):
    """A file, in base64."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"content": "aW1wb3J0IG9zCg=="}]})

    content: Base64Bytes


class Prediction(BaseModel):
    """``certain``: whether the score is above the threshold of the label."""

    label: str
    score: float
    certain: bool


def to_tensors(instances: Sequence[Instance]) -> Tensors:
    rows = np.full((len(instances), 2 * SIZE), PADDING, np.int32)
    for number, (row, instance) in enumerate(zip(rows, instances, strict=True)):
        start = instance.content[:BLOCK].lstrip()[:SIZE]
        end = instance.content[-BLOCK:].rstrip()[-SIZE:]
        if len(start) < CONFIG["min_file_size_for_dl"]:
            raise Refused("is too short for the model", field="content", instance=number)
        row[: len(start)] = list(start)
        row[len(row) - len(end) :] = list(end)
    return {"bytes": rows}


def to_predictions(outputs: Tensors) -> list[Prediction]:
    predictions = []
    for scores in outputs["target_label"]:
        label, score = CONFIG["target_labels_space"][scores.argmax()], float(scores.max())
        least = CONFIG["thresholds"].get(label, CONFIG["medium_confidence_threshold"])
        predictions.append(Prediction(label=label, score=score, certain=score >= least))
    return predictions
