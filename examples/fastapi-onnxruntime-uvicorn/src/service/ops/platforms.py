"""What managed clouds tell a container, as settings of the service.

docs/clouds.md of the template has the table. A setting of the service's own comes before all this.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_SAGEMAKER: Final = "_SERVICE_SAGEMAKER"
_SAGEMAKER_PORT: Final = "SAGEMAKER_BIND_TO_PORT"
_SAGEMAKER_MODEL: Final = Path("/opt/ml/model")
_AZURE_MODEL: Final = "AZUREML_MODEL_DIR"
_VARIABLES: Final = {
    "AIP_HTTP_PORT": "port",
    "AIP_HEALTH_ROUTE": "health_path",
    "AIP_PREDICT_ROUTE": "predict_path",
    "PORT": "port",
}
"""Settings by the variables that have their values."""

VARIABLES: Final = frozenset({_SAGEMAKER, _SAGEMAKER_PORT, _AZURE_MODEL, *_VARIABLES})
"""All that is read of the environment."""


class Given(NamedTuple):
    """The value of a setting, and where it is from: a variable, or the argument ``serve``."""

    value: str
    source: str


class PlatformConflict(Exception):
    """Two variables say different things. The text names them."""


def start_sagemaker() -> None:
    """Note for this and all child processes that SageMaker started the container.

    It has no variable of its own for that; it gives the argument ``serve``.
    """
    os.environ[_SAGEMAKER] = "1"


def find(wanted: Collection[str], environment: Mapping[str, str] = os.environ) -> dict[str, Given]:
    """Return what the platform says about the wanted settings, by their names.

    Raises:
        PlatformConflict: two variables say different things about one of them.
    """
    found: dict[str, Given] = {}
    for name, given in _candidates(environment):
        if name not in wanted:
            continue
        other = found.setdefault(name, given)
        if other.value != given.value:
            raise PlatformConflict(
                f"{given.source} is {given.value}, but {other.source} is {other.value}: "
                f"set SERVICE_{name.upper()}"
            )
    return found


def _candidates(environment: Mapping[str, str]) -> list[tuple[str, Given]]:
    found = []
    if environment.get(_SAGEMAKER):
        found += _of_sagemaker(environment)
    for variable, name in _VARIABLES.items():
        if value := environment.get(variable):
            found.append((name, Given(value, variable)))
    if folder := environment.get(_AZURE_MODEL):
        found.append(("model_dir", Given(str(_with_manifest(Path(folder))), _AZURE_MODEL)))
    return found


def _of_sagemaker(environment: Mapping[str, str]) -> list[tuple[str, Given]]:
    port = environment.get(_SAGEMAKER_PORT)
    found = [
        ("port", Given(port, _SAGEMAKER_PORT) if port else Given("8080", "serve")),
        ("health_path", Given("/ping", "serve")),
        ("predict_path", Given("/invocations", "serve")),
    ]
    if _SAGEMAKER_MODEL.is_dir() and any(_SAGEMAKER_MODEL.iterdir()):  # else the image's own model
        found.append(("model_dir", Given(str(_SAGEMAKER_MODEL), "serve")))
    return found


def _with_manifest(folder: Path) -> Path:
    """Return the folder, or the only one in it with a manifest: Azure ML keeps its name."""
    below = [] if (folder / "manifest.json").exists() else list(folder.glob("*/manifest.json"))
    return below[0].parent if len(below) == 1 else folder
