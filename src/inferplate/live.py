"""What is checked of a service that really runs."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from inferplate.conversion import tensors_of
from inferplate.errors import CheckFailed
from inferplate.matrix import Variant
from inferplate.running import Running, Service, wait_until
from inferplate.wire import (
    HeldRequest,
    InputTensor,
    Response,
    alike,
    ask,
    binary_request,
    decode_outputs,
    json_request,
    post_json,
    samples,
)
from inferplate.workbench import Workbench

_TOLERANCE: Final = 0.02
"""Between a golden prediction and one of a model trained today, perhaps with other libraries."""
_ROUNDING: Final = 1e-5
"""Between two answers of one model."""
_NOTICE_SECONDS: Final = 5.0
_IN_FLIGHT: Final = "http_requests_in_flight"
_REQUESTS: Final = "http_requests_total"


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


def check_server(bench: Workbench, variant: Variant) -> None:
    """Start the service with one worker, ask it everything, and end it with a request in flight."""
    bench.place_artifact(variant)
    check_running(bench.project(variant), bench.python, workers=1)


def check_running(project: Path, python: str, *, workers: int) -> None:
    """Start the service of a project, ask it everything, and end it with a request in flight.

    Raises:
        CheckFailed: something is not as the contract says.
    """
    golden = Golden.of(project, python)
    settings = {"SERVICE_WORKERS": str(workers), "SERVICE_THREADS": "1"}
    with Service(project, python, settings) as service:
        service.wait_ready()
        check_ready(service, golden)


def check_ready(service: Running, golden: Golden) -> None:
    """Ask a service that is ready everything, and end it with a request in flight.

    Raises:
        CheckFailed: something is not as the contract says.
    """
    try:
        check_predictions(service.port, golden)
        check_metrics(service.port, golden)
    except (OSError, ValueError, KeyError) as error:
        raise service.failure(f"{type(error).__name__}: {error}") from error
    check_drain(service, golden)


def check_predictions(port: int, golden: Golden) -> None:
    """Ask for the golden prediction on each endpoint that gives predictions."""
    path = golden.infer_path
    as_json = _success(post_json(port, path, golden.infer_request), f"{path} with JSON")
    body, headers = binary_request(golden.inputs)
    as_binary = _success(ask(port, "POST", path, body, headers), f"{path} with binary tensors")
    if as_binary.headers.get("content-type") != "application/octet-stream":
        raise CheckFailed(f"{path} answers a request for binary tensors with {as_binary.headers}")
    named = decode_outputs(as_json)
    if not alike(named, decode_outputs(as_binary), _ROUNDING):
        raise CheckFailed(f"{path} answers differently in binary and in JSON: {named}")
    if golden.is_typed:
        _check_typed(port, golden, named)
    elif not alike(named, golden.outputs, _TOLERANCE):
        raise CheckFailed(f"{path} answers {named}, tests/golden.json has {golden.outputs}")


def _check_typed(port: int, golden: Golden, named: dict[str, list[Any]]) -> None:
    """Ask /predict. ``named``: what the protocol answers to the same, by the names of outputs."""
    typed = _success(post_json(port, "/predict", golden.typed_request), "/predict").json()
    if not alike(typed["predictions"], golden.predictions, _TOLERANCE):
        raise CheckFailed(
            f"/predict answers {typed['predictions']}, tests/golden.json has {golden.predictions}"
        )
    if typed["model"] != {"name": golden.model, "version": golden.version}:
        raise CheckFailed(f"/predict names the model {typed['model']}")
    for index, prediction in enumerate(typed["predictions"]):
        rows = [_row(values, index, len(golden.instances)) for values in named.values() if values]
        if not any(alike(_numbers(prediction), row, _ROUNDING) for row in rows):
            raise CheckFailed(
                f"{golden.infer_path} answers {named}; for instance {index} /predict answers "
                f"{prediction}"
            )


def check_metrics(port: int, golden: Golden) -> None:
    """Look for the predictions that were just made on the metrics page."""
    if golden.is_typed:
        _check_counted(port, "/predict", 1)
    _check_counted(port, "/infer", 2)


def _check_counted(port: int, route: str, expected: int) -> None:
    if not wait_until(lambda: counted(port, route) == expected, _NOTICE_SECONDS):
        found = counted(port, route)
        raise CheckFailed(f"{_REQUESTS} has {found:g} of {expected} requests to {route}")


def counted(port: int, route: str) -> float:
    """Read how many requests to a route were answered with success."""
    return sum(
        value
        for labels, value in samples(port, _REQUESTS)
        if route in labels and 'status="200"' in labels
    )


def check_drain(service: Running, golden: Golden) -> None:
    """Send SIGTERM while a request is half sent: it must be answered, and the service must end."""
    if not wait_until(lambda: in_flight(service.port) == 1, _NOTICE_SECONDS):
        raise service.failure("requests that were answered are still in flight")
    with HeldRequest(service.port, *golden.request) as held:
        if not wait_until(lambda: in_flight(service.port) > 1, _NOTICE_SECONDS):
            raise service.failure("a request with half a body is not in flight")
        service.terminate()
        if not wait_until(lambda: not service.answers_ready(), _NOTICE_SECONDS):
            raise service.failure(
                f"the service still reports ready {_NOTICE_SECONDS:g} s after SIGTERM"
            )
        try:
            answer = held.finish()
        except OSError as error:
            raise service.failure(f"SIGTERM cut the request in flight: {error!r}") from error
    _success(answer, "the request in flight at SIGTERM")
    service.wait_exit()


def in_flight(port: int) -> float:
    """Read how many requests the service is answering, this one among them."""
    return sum(value for _, value in samples(port, _IN_FLIGHT))


def _success(response: Response, what: str) -> Response:
    if response.status != 200:
        raise CheckFailed(f"{what} answers {response.status}: {response.body[:500]!r}")
    return response


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def _row(values: list[Any], index: int, count: int) -> list[Any]:
    """Return what an output has for one of so many instances."""
    width = len(values) // count
    return values[index * width : (index + 1) * width]
