"""Each framework on each server with two workers, and a worker that dies."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.errors import CheckFailed
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, wait_until
from inferplate_tools.verify.server import check_predictions, check_running
from inferplate_tools.workbench import Workbench

PAIRS = [variant for variant in ALL_VARIANTS if variant.runtime == "onnxruntime"]
SETTINGS = {"SERVICE_WORKERS": "2", "SERVICE_THREADS": "1"}
RECOVERY_SECONDS = 30


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair.framework}-{pair.server}")
def pair(request: pytest.FixtureRequest) -> Variant:
    variant: Variant = request.param
    return variant


@pytest.mark.slow
def test_two_workers(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("two workers: asked, counted together, drained, ended in time", pair, len(PAIRS))
    check_running(copy_of(pair), bench.python, workers=2)


@pytest.mark.slow
def test_a_dead_worker_is_replaced_or_the_service_ends(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("a worker killed: replaced, or the service ends", pair, len(PAIRS))
    project = copy_of(pair)
    with Service(project, bench.python, SETTINGS) as service:
        service.wait_ready()
        workers = serving_processes(service.pid)
        os.kill(max(workers), signal.SIGKILL)
        assert wait_until(
            lambda: (
                service.ended
                or (len(serving_processes(service.pid) - workers) >= 1 and service.answers_ready())
            ),
            RECOVERY_SECONDS,
        ), service.failure("the worker was not replaced and the service did not end")
        if not service.ended:
            golden = Golden.of(project)
            assert wait_until(lambda: predicts(service, golden), RECOVERY_SECONDS)
            service.terminate()
            service.wait_exit()


def predicts(service: Service, golden: Golden) -> bool:
    try:
        check_predictions(service.port, golden)
    except CheckFailed as error:
        if " 503: " in str(error):
            return False
        raise
    return True


def serving_processes(pid: int) -> set[int]:
    """List the descendants of a process that have the model's runtime loaded."""
    return {child for child in descendants(pid) if "onnxruntime" in maps(child)}


def descendants(pid: int) -> set[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = {
            int(child) for task in tasks for child in (task / "children").read_text().split()
        }
    except OSError:
        return set()
    return children.union(*(descendants(child) for child in children))


def maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""
