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

    ``instances`` and ``predictions``: the typed endpoint's, none if the project does not have it.
    ``tensors``: requests of the protocol with their outputs, in such a project. ``specs``: the
    model's inputs as its manifest has them. ``python``: of an environment with what the project
    needs; it is run only for the tensors.
    """

    project: Path
    python: str
    instances: list[dict[str, Any]]
    predictions: list[Any]
    model: str
    version: str
    specs: list[dict[str, Any]]
    tensors: list[dict[str, Any]]

    @classmethod
    def of(cls, project: Path, python: str = sys.executable) -> "Golden":
        """Read the golden values and the manifest of a project."""
        golden = json.loads((project / "tests/golden.json").read_bytes())
        manifest = json.loads((project / "models/manifest.json").read_bytes())
        return cls(
            project,
            python,
            [entry["instance"] for entry in golden if "instance" in entry],
            [entry["prediction"] for entry in golden if "instance" in entry],
            manifest["name"],
            manifest["version"],
            manifest["inputs"],
            [entry for entry in golden if "inputs" in entry],
        )

    @property
    def is_typed(self) -> bool:
        """Whether the project has /predict."""
        return not self.tensors

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
        if not self.is_typed:
            return [InputTensor(**tensor) for tensor in self._joined("inputs")]
        return tensors_of(self.project, self.python, self.instances, self.specs)

    @property
    def outputs(self) -> dict[str, list[Any]]:
        """The outputs for `inputs`, by their names, in a project without /predict."""
        return {tensor["name"]: tensor["data"] for tensor in self._joined("outputs")}

    @property
    def request(self) -> tuple[str, dict[str, Any]]:
        """The path that clients of the project ask, and a request to it."""
        if self.is_typed:
            return "/predict", self.typed_request
        return self.infer_path, self.infer_request

    def _joined(self, kind: str) -> list[dict[str, Any]]:
        """Return the inputs or the outputs of all requests as one, row after row."""
        return [
            {
                **tensors[0],
                "shape": [sum(each["shape"][0] for each in tensors), *tensors[0]["shape"][1:]],
                "data": [value for each in tensors for value in each["data"]],
            }
            for tensors in zip(*(entry[kind] for entry in self.tensors), strict=True)
        ]

    @property
    def infer_request(self) -> dict[str, Any]:
        return json_request(self.inputs)
