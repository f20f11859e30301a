"""A runtime whose model takes a given time for each row, in place of the service's own.

It sleeps, as one does that runs on an accelerator or on processors of its own. It doubles the
first columns of its rows, so that every answer tells to which request it belongs.
"""

import os
import time
from pathlib import Path
from typing import Any, Final

from service.core.manifest import Manifest
from service.core.tensors import Signature, Tensors

RUNTIME: Final = "python"
SECONDS_PER_ROW: Final = float(os.environ["SECONDS_PER_ROW"])


class Model:
    """Takes and gives the tensors of the example that it replaces."""

    signature: Final = Signature((), ())

    def __init__(self, manifest: Manifest) -> None:
        self._input, self._output = manifest.inputs[0].name, manifest.outputs[0]

    def run(self, batch: Tensors) -> Tensors:
        rows = batch[self._input]
        time.sleep(SECONDS_PER_ROW * len(rows))
        return {self._output.name: 2 * rows[:, : self._output.shape[1]]}


def inspect(artifact: Path, parameters: dict[str, Any]) -> Signature:
    return Model.signature


def load(artifact: Path, manifest: Manifest, *, threads: int, device: str) -> Model:
    return Model(manifest)
