"""Writes a first predict.py, with what the model answers to it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from service.core.examples import Examples
from service.core.manifest import Manifest
from service.core.run import Run
from service.core.tensors import Feature
from service.scaffold import project
from service.scaffold.answers import ask
from service.scaffold.plan import make_plan
from service.scaffold.predict_text import write
from service.scaffold.rows import instances


def write_first_predict(
    folder: Path,
    manifest: Manifest,
    run: Run,
    candidates: Sequence[Examples],
    *,
    columns: Sequence[Feature],
    classes: Sequence[str | int | float],
    batched: bool,
    force: bool,
    json_outputs: Sequence[str] = (),
) -> list[str]:
    """Write predict.py and golden.json into a project; return what there is to say of it.

    ``candidates``: inputs of the model. ``columns`` and ``classes``: those of the model, as far as
    they are known. ``json_outputs``: the outputs whose texts are JSON. ``batched``: whether the
    first axis is a batch.

    Raises:
        ArtifactError: instances would be too large for JSON, or the model answers none of them.
    """
    plan = make_plan(manifest, columns, classes, batched=batched)
    plan = replace(plan, json_outputs=tuple(json_outputs))
    inputs = manifest.input_specs()
    answers = ask(write(plan), run, inputs, instances(plan, candidates))
    text = write(plan, answers[0].instance)
    ask(text, run, inputs, [answers[0].instance])
    golden = [answer._asdict() for answer in answers]
    return project.write(
        folder,
        {
            project.PREDICT: text,
            project.GOLDEN: json.dumps(golden, indent=2, ensure_ascii=False) + "\n",
        },
        force=force,
    )
