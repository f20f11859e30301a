"""Ray Serve with two nodes on this machine: golden predictions, and what a loss costs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from conftest import Covers

from inferplate.template.render import render
from inferplate.template.variants import Variant
from inferplate_tools.client import HeldRequest, alike, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import answers_ready, free_port, wait_until
from inferplate_tools.workbench import Workbench, project_environment

pytest.importorskip("ray", reason="Ray is not installed: it has no wheels for this platform")


FRAMEWORKS: Final = ["fastapi", "litestar", "ninja"]
SCRIPT: Final = Path(__file__).parent / "ray_cluster.py"
ENVIRONMENT: Final = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps Ray's ports on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
}
IN_FLIGHT: Final = 1.0
"""Seconds that a request of the load lasts at most."""

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def projects(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Emit a service with each framework and files for Ray, with its model."""
    folder = tmp_path_factory.mktemp("ray")
    made = {}
    for framework in FRAMEWORKS:
        variant = Variant(framework, "onnxruntime", "uvicorn")
        answers = {**variant.answers(), "deploy": ["ray"]}
        made[framework] = render(bench.template(), folder / framework, answers)
        shutil.copytree(bench.artifact(variant), made[framework] / "models", dirs_exist_ok=True)
    return made


@pytest.fixture(scope="module")
def seen(projects: dict[str, Path], bench: Workbench) -> dict[str, Any]:
    """Serve all on one cluster, one after the other. Return what was seen of each."""

    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        port, other = free_port(), free_port()
        environment = {
            **project_environment(ENVIRONMENT),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(other),
        }
        done = subprocess.run(
            [
                *(bench.python, str(SCRIPT), "seen.json", str(port), str(other)),
                *map(str, projects.values()),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    path = bench.once("ray", make) / "seen.json"
    seen: dict[str, Any] = json.loads(path.read_bytes())
    return dict(zip(FRAMEWORKS, seen.values(), strict=True))


@pytest.fixture(params=FRAMEWORKS)
def run(request: pytest.FixtureRequest, seen: dict[str, Any]) -> Any:
    """Return what was seen of one framework."""
    return seen[request.param]


def test_both_nodes_answer_with_the_golden_predictions(run: Any) -> None:
    assert run["golden"] == ["", ""]
    nodes = {each["node"] for each in run["three"]}
    assert len(nodes) == 2
    assert run["other"] in nodes
    assert run["answers"].keys() == {each["id"] for each in run["three"]}
    assert all(run["answers"].values()), "each replica has answered"
    assert run["answered"] > 100


def test_load_makes_three_replicas_of_one_and_they_go_again(run: Any) -> None:
    assert [len(run[name]) for name in ("one", "three", "one_again")] == [1, 3, 1]


def test_what_dies_takes_only_its_requests_and_comes_back(
    run: Any, request: pytest.FixtureRequest, covers: Covers
) -> None:
    framework = request.node.callspec.params["run"]
    covers("Ray Serve: a replica and a node killed", framework, len(FRAMEWORKS))
    assert failures_elsewhere(run) == []
    assert run["lost"] in run["three"]
    for name in ("after_replica", "after_node"):
        assert len(run[name]) == 3
        assert run["lost"] not in run[name]
    assert run["other"] not in {each["node"] for each in run["after_node"]}


def failures_elsewhere(run: Any) -> list[str]:
    """Describe failed requests that were not in flight where something was killed."""
    return [
        f"{each['why']}, {each['began'] - run['replica_killed']:.2f} s after the replica was killed"
        for each in run["failures"]
        if not any(
            killed - IN_FLIGHT <= each["began"] <= gone and each["ended"] >= killed
            for killed, gone in (
                (run["replica_killed"], run["replica_killed"]),
                (run["node_killed"], run["node_gone"]),
            )
        )
    ]


@pytest.mark.parametrize(
    "failure",
    [
        {"proxy": 1, "began": 12.0, "ended": 12.1, "why": "500"},
        {"proxy": 1, "began": 9.5, "ended": 9.9, "why": "another prediction"},
    ],
    ids=["afterwards", "before"],
)
def test_a_failure_elsewhere_is_noticed(failure: dict[str, Any]) -> None:
    times = {"replica_killed": 10.0, "node_killed": 20.0, "node_gone": 20.1}
    in_flight = {"proxy": 1, "began": 9.7, "ended": 10.1, "why": "500"}
    assert failures_elsewhere({**times, "failures": [in_flight]}) == []
    assert len(failures_elsewhere({**times, "failures": [in_flight, failure]})) == 1


def test_one_command_serves_and_finishes_what_it_has(
    projects: dict[str, Path], bench: Workbench
) -> None:
    project = projects[FRAMEWORKS[0]]
    golden, port = Golden.of(project), free_port()
    with running(project, bench, port) as process:
        assert wait_until(lambda: answers_ready(port), 90), process.args
        answer = post_json(port, *golden.request)
        assert alike(answer.json()["predictions"], golden.predictions, 0.02)
        with HeldRequest(port, *golden.request) as held:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert wait_until(lambda: not answers_ready(port), 10)
            assert held.finish().status == 200
        assert process.wait(60) == 0


def test_one_command_says_why_a_model_cannot_be_served(
    projects: dict[str, Path], bench: Workbench, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(projects[FRAMEWORKS[0]], project)
    with (project / "models/iris.onnx").open("ab") as artifact:
        artifact.write(b"x")
    with running(project, bench, free_port()) as process:
        assert process.wait(90) == 1
    lines = (project / "run.log").read_text(encoding="utf-8").splitlines()
    (told,) = (line for line in lines if line.startswith("service: "))
    assert told.startswith("service: models/iris.onnx was altered")


@contextlib.contextmanager
def running(project: Path, bench: Workbench, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command of ``make ray``; leaving leaves no process behind."""
    paths = ["src", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **project_environment({**ENVIRONMENT, "SERVICE_PORT": str(port)}),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    with (project / "run.log").open("wb") as log:
        process = subprocess.Popen(
            [bench.python, "deploy/ray/run.py"],
            cwd=project,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
