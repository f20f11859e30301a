"""The known predictions of an example model."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inferplate_tools.client import InputTensor, json_request
from inferplate_tools.conversion import tensors_of


@dataclass(frozen=True)
class Golden:
    """Known predictions of an example model.

    ``instances`` and ``predictions``: the typed endpoint's. ``specs``: the model's inputs as its
    manifest has them. ``python``: of an environment with what the project needs; it is run only
    for the tensors.
    """

    project: Path
    python: str
    instances: list[dict[str, Any]]
    predictions: list[Any]
    model: str
    version: str
    specs: list[dict[str, Any]]

    @classmethod
    def of(cls, project: Path, python: str = sys.executable) -> "Golden":
        """Read the golden values and the manifest of a project."""
        golden = json.loads((project / "tests/golden.json").read_bytes())
        manifest = json.loads((project / "models/manifest.json").read_bytes())
        return cls(
            project,
            python,
            [entry["instance"] for entry in golden],
            [entry["prediction"] for entry in golden],
            manifest["name"],
            manifest["version"],
            manifest["inputs"],
        )

    @property
    def typed_request(self) -> dict[str, Any]:
        return {"instances": self.instances}

    @property
    def infer_path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    @cached_property
    def inputs(self) -> list[InputTensor]:
        """The instances as the model's inputs, a row for each.

        Raises:
            CheckFailed: the project does not make them.
        """
        return tensors_of(self.project, self.python, self.instances, self.specs)

    @property
    def infer_request(self) -> dict[str, Any]:
        return json_request(self.inputs)
