"""The golden instances of a project as the tensors of its model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inferplate.template.source import template_root
from inferplate_tools.errors import CheckFailed
from inferplate_tools.golden import Golden

PREDICT = """
import numpy as np
from pydantic import BaseModel

class Instance(BaseModel):
    text: str

def to_tensors(instances):
    lengths = [[len(each.text), 1] for each in instances]
    texts = [each.text.encode() for each in instances]
    return {"lengths": np.array(lengths, np.int64), "text": np.array(texts, object)}
"""
LENGTHS = {"name": "lengths", "datatype": "INT64", "shape": [-1, 2]}
TEXT = {"name": "text", "datatype": "BYTES", "shape": [-1]}

ROOMS = (
    *("service/src/service/core", "service/src/service/ops"),
    *("handlers/predict/src/service/ops", "accelerators/cpu/src/service/ops"),
)
Make = Callable[..., Golden]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a project with two instances and a manifest."""
    template = template_root() / "template"
    for room in ROOMS:
        place = tmp_path / "src/service" / Path(room).name
        shutil.copytree(template / room, place, dirs_exist_ok=True)

    def write(inputs: list[dict[str, Any]], field: str = "text") -> Golden:
        golden = [{"instance": {field: text}, "prediction": {}} for text in ("é", "four")]
        manifest = {"name": "lengths", "version": "1", "inputs": inputs}
        for name, text in {
            "src/service/__init__.py": "",
            "src/service/predict.py": PREDICT,
            "tests/golden.json": json.dumps(golden),
            "models/manifest.json": json.dumps(manifest),
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Golden.of(tmp_path)

    return write


def test_there_may_be_several_inputs_and_texts(make: Make) -> None:
    golden = make([TEXT, LENGTHS])  # in the order of the manifest
    assert golden.infer_request == {
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["é", "four"]},
            {"name": "lengths", "datatype": "INT64", "shape": [2, 2], "data": [1, 1, 4, 1]},
        ]
    }
    text, lengths = (tensor.of_rows([1, 0, 1]) for tensor in golden.inputs)
    assert (text.shape, text.data) == ([3], ["four", "é", "four"])
    assert (lengths.shape, lengths.data) == ([3, 2], [4, 1, 1, 1, 4, 1])


def test_what_does_not_fit_is_told(make: Make) -> None:
    with pytest.raises(CheckFailed, match=r"makes \['lengths', 'text'\]"):
        _ = make([TEXT]).inputs
    with pytest.raises(CheckFailed, match="Field required"):
        _ = make([TEXT, LENGTHS], field="other").inputs
