"""What the ``predict.py`` of a project makes of instances."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from inferplate.errors import CheckFailed
from inferplate.wire import InputTensor
from inferplate.workbench import project_environment, tail

_SECONDS: Final = 120
_PROGRAM: Final = """
import json, sys
from service.predict import Instance, to_tensors

given = json.load(sys.stdin)
tensors = to_tensors([Instance.model_validate_json(json.dumps(each)) for each in given])
json.dump(
    {
        name: {
            "shape": array.shape,
            "data": [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()],
        }
        for name, array in tensors.items()
    },
    sys.stdout,
)
"""

_made: Final[dict[tuple[bytes, str], Any]] = {}
"""By `predict.py` and instances: most variants have the same."""


def tensors_of(
    project: Path,
    python: str,
    instances: Sequence[Any],
    specs: Sequence[Mapping[str, Any]],
) -> list[InputTensor]:
    """Return the model's inputs for instances, as `to_tensors` of a project makes them.

    It must return the tensors of all instances together, and need no resources. ``python``: of an
    environment with what the project needs. ``specs``: the inputs as the manifest has them.

    Raises:
        CheckFailed: the instances cannot be converted, or not to these inputs.
    """
    key = ((project / "src/service/predict.py").read_bytes(), json.dumps(instances))
    if key not in _made:
        _made[key] = _make(project, python, key[1])
    made = _made[key]
    if made.keys() != {spec["name"] for spec in specs}:
        raise CheckFailed(f"to_tensors makes {sorted(made)}, and the manifest has other inputs")
    return [InputTensor(spec["name"], spec["datatype"], **made[spec["name"]]) for spec in specs]


def _make(project: Path, python: str, instances: str) -> Any:
    done = subprocess.run(  # noqa: S603 - the program is ours
        [python, "-c", _PROGRAM],
        cwd=project,
        env=project_environment(),
        input=instances.encode(),
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"to_tensors does not take the golden instances\n{tail(done.stderr)}")
    return json.loads(done.stdout)
