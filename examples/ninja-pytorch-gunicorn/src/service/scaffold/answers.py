"""Asks the model through a predict.py that is not yet in its place."""

import importlib.util
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from service.core.manifest import ArtifactError
from service.core.run import Run
from service.core.tensors import TensorSpec, check_inputs

_ENOUGH: Final = 6


class Answer(NamedTuple):
    """An instance, and the prediction for it, in JSON."""

    instance: dict[str, Any]
    prediction: dict[str, Any]


def ask(
    text: str, run: Run, inputs: Sequence[TensorSpec], instances: Iterable[dict[str, Any]]
) -> list[Answer]:
    """Return what the model answers to instances that it can take, a few of them.

    ``text``: that of predict.py.

    Raises:
        ArtifactError: it can take none.
    """
    predict = _module(text)
    answers: list[Answer] = []
    failure: Exception | None = None
    for instance in instances:
        try:
            valid = predict.Instance.model_validate(instance)
            made = predict.to_tensors([valid])
            tensors = made if isinstance(made, dict) else made[0]
            check_inputs(inputs, tensors)
            outputs = run(tensors)
            (prediction,) = predict.to_predictions(outputs)
        except ArtifactError:
            raise
        except Exception as error:
            failure = failure or error
            continue
        finite = all(
            np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"
        )
        if finite:
            plain = json.loads(prediction.model_dump_json())
            answers.append(Answer(json.loads(valid.model_dump_json()), plain))
        if len(answers) == _ENOUGH:
            break
    if not answers:
        reason = " ".join(str(failure or "its answers are not finite").split())[:300]
        raise ArtifactError(
            "the model answers none of the rows that were made up for tests/golden.json: give real "
            f"ones in examples.npz beside the manifest ({reason})"
        )
    return answers


def _module(text: str) -> Any:
    """Run the text as a module of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predict.py")
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("a_first_predict", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
