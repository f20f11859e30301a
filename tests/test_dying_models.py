"""A model that hangs, ends itself or panics: its process says so, ends, and is replaced or not.

A process that is the only one of its service ends the service, for its supervisor to start it
again. uvicorn and hypercorn have one with one worker; gunicorn and granian always have a main
process, which replaces the workers.
"""

import http.client
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ALL_VARIANTS

from inferplate.template.variants import Variant
from inferplate_tools.client import ask, post_json
from inferplate_tools.service import Service, wait_until
from inferplate_tools.workbench import Workbench

pytestmark = pytest.mark.slow

VARIANTS = [
    variant
    for variant in ALL_VARIANTS
    if (variant.framework, variant.runtime) == ("fastapi", "python")
]
"""One for each server."""

HANG, EXIT, PANIC, KILL = 101.0, 102.0, 103.0, 104.0
ILL_MODEL = f"""
import os
import time

_sound_run = Model.run

class PanicException(BaseException):
    pass

def _run(self, batch):
    (rows,) = batch.values()
    match float(rows[0, 0]):
        case {HANG}:
            time.sleep(3600)
        case {EXIT}:
            raise SystemExit(0)
        case {PANIC}:
            raise PanicException("index out of bounds")
        case {KILL}:
            os.kill(os.getpid(), 9)
    return _sound_run(self, batch)

Model.run = _run  # type: ignore[method-assign]
"""
SETTINGS = {
    "SERVICE_THREADS": "1",
    "SERVICE_REQUEST_TIMEOUT": "1",
    "SERVICE_RUN_TIMEOUT": "2",
    "SERVICE_GRACEFUL_TIMEOUT": "3",
}
INFER = "/v2/models/iris/infer"

Make = Callable[[Variant], Path]


@pytest.fixture(params=VARIANTS, ids=lambda variant: str(variant.server))
def variant(request: pytest.FixtureRequest) -> Variant:
    chosen: Variant = request.param
    return chosen


@pytest.fixture
def project(variant: Variant, copy_of: Make) -> Path:
    copy = copy_of(variant)
    with (copy / "src/service/runtime.py").open("a") as runtime:
        runtime.write(ILL_MODEL)
    return copy


def start(project: Path, bench: Workbench, workers: int) -> Service:
    return Service(project, bench.python, {**SETTINGS, "SERVICE_WORKERS": str(workers)})


def flower(value: float) -> dict[str, Any]:
    data = [value, 3.5, 1.4, 0.2]
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP32", "data": data}
    return {"inputs": [tensor]}


def answer(service: Service, value: float) -> int | None:
    """Return the status of a request, or None if the connection was cut."""
    try:
        return post_json(service.port, INFER, flower(value)).status
    except (OSError, http.client.HTTPException):
        return None


def live(service: Service) -> bool | None:
    try:
        found: bool = json.loads(ask(service.port, "GET", "/v2/health/live", timeout=2).body)[
            "live"
        ]
    except (OSError, http.client.HTTPException):
        return None
    return found


def log(service: Service) -> str:
    return service.log.read_text()


def is_alone(variant: Variant, workers: int) -> bool:
    return workers == 1 and variant.server in ("uvicorn", "hypercorn")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        (HANG, 504, r"the model hangs since [23] s with a batch of 1 rows"),
        (EXIT, 500, "the model ended with SystemExit: 0"),
        (PANIC, 500, "the model ended with PanicException: index out of bounds"),
    ],
    ids=["hang", "exit", "panic"],
)
def test_process_whose_model_can_run_no_more_is_replaced_or_ends_the_service(
    variant: Variant,
    project: Path,
    bench: Workbench,
    workers: int,
    value: float,
    status: int,
    reason: str,
) -> None:
    with start(project, bench, workers) as service:
        service.wait_ready()
        assert answer(service, value) == status, log(service)
        if is_alone(variant, workers):
            assert wait_until(lambda: service.ended, 10), log(service)
            assert service.code == 1
            assert_said(service, f"^service: {reason}$")
            return
        assert wait_until(lambda: live(service) is not False and not service.answers_ready(), 10)
        service.wait_ready()
        assert {answer(service, 5.1) for _ in range(8)} == {200}
        assert_said(service, reason)
        service.terminate()
        service.wait_exit()


def ask_until_ended(service: Service, value: float) -> None:
    """Send a value from which workers die, until the service gives up."""

    def ended() -> bool:
        if not service.ended:
            answer(service, value)
        return service.ended

    assert wait_until(ended, 90, every=0.2), log(service)


@pytest.mark.parametrize("workers", [1, 2])
def test_deaths_one_after_the_other_back_off_and_end_the_service(
    variant: Variant, project: Path, bench: Workbench, workers: int
) -> None:
    if is_alone(variant, workers):
        pytest.skip("the first death ends the service")
    with start(project, bench, workers) as service:
        service.wait_ready()
        ask_until_ended(service, EXIT)
        assert service.code == 1
        reason = "workers died within a minute of being ready: the model ended with SystemExit: 0"
        if variant.server == "granian":  # gives up by itself if a replacement dies in 5.5 s
            assert_said(service, f"^service: [2-7] {reason}$")
            return
        assert_said(service, f"^service: [5-7] {reason}$")
        for seconds, dead in ((1, 2), (4, 4)):
            assert_said(service, f"the next worker starts in {seconds} s: {dead} {reason}")


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_workers_count_too(
    variant: Variant, project: Path, bench: Workbench, workers: int
) -> None:
    if is_alone(variant, workers):
        pytest.skip("the first death ends the service")
    with start(project, bench, workers) as service:
        service.wait_ready()
        ask_until_ended(service, KILL)
        assert service.code == 1
        least = 2 if variant.server == "granian" else 5
        assert_said(service, f"^service: [{least}-7] workers died within a minute .*killed")


def assert_said(service: Service, pattern: str) -> None:
    assert re.search(pattern, log(service), re.MULTILINE), log(service)
