"""What is checked of a service that really runs."""

from pathlib import Path
from typing import Any, Final

from inferplate.template.variants import Variant
from inferplate_tools.client import (
    HeldRequest,
    Response,
    alike,
    ask,
    binary_request,
    decode_outputs,
    post_json,
    samples,
)
from inferplate_tools.errors import CheckFailed
from inferplate_tools.golden import Golden
from inferplate_tools.service import Running, Service, wait_until
from inferplate_tools.workbench import Workbench

_TOLERANCE: Final = 0.02
"""Between a golden prediction and one of a model trained today, perhaps with other libraries."""
_ROUNDING: Final = 1e-5
"""Between two answers of one model."""
_NOTICE_SECONDS: Final = 5.0
_IN_FLIGHT: Final = "http_requests_in_flight"
_REQUESTS: Final = "http_requests_total"


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
    """Ask /predict. ``named``: the protocol's outputs for the same instances, by name."""
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
