"""Two nodes of Ray on this machine, and services on them, one after the other: run by test_ray.py.

Each is scaled by load from one replica to three on both nodes, loses a replica and a node while
requests are in flight, and shrinks again. What was seen is written as JSON.
"""

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import ray
import yaml
from ray.cluster_utils import Cluster
from ray.serve import context
from ray.serve._private import api
from ray.serve.schema import ServeDeploySchema

from inferplate_tools.client import HOST, alike, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import answers_ready, wait_until

CLIENTS: Final = 5
"""Of each node's proxy."""
TOLERANCE: Final = 0.02
SECONDS: Final = 120.0
SETTINGS: Final = {
    "SERVICE_ACCESS_LOG": "all",
    "SERVICE_DRAIN_DELAY": "0",
    "SERVICE_LOG_FORMAT": "json",
    "SERVICE_MAX_BATCH_DELAY": "0.3",  # so that requests are in flight, at little cost
    "SERVICE_RAY_DOWNSCALE_DELAY": "2",
    "SERVICE_RAY_MAX_REPLICAS": "3",
    "SERVICE_RAY_TARGET_ONGOING_REQUESTS": "2",
    "SERVICE_RAY_UPSCALE_DELAY": "1",
    "SERVICE_WORKERS": "1",
}


@dataclass(frozen=True)
class Replica:
    """A replica as Ray's controller describes it."""

    id: str
    pid: int
    node: str


@dataclass(frozen=True)
class Failure:
    """A request that did not get its golden prediction; times are those of `time.monotonic`."""

    proxy: int
    began: float
    ended: float
    why: str


class Service:
    """The application in the cluster."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.path, self.request = golden.request
        self.failures: list[Failure] = []
        self.answered = 0

    def replicas(self) -> list[Replica]:
        """Ask the controller for the replicas that run."""
        details = context._get_global_client().get_serve_details()
        return [
            Replica(each["replica_id"], each["pid"], each["node_id"])
            for application in details["applications"].values()
            for deployment in application["deployments"].values()
            for each in deployment["replicas"]
            if each["state"] == "RUNNING"
        ]

    def wait_for(self, count: int, *, without: Replica | None = None) -> list[Replica]:
        """Wait until so many replicas run. Return them."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            found = self.replicas()
            if len(found) == count and without not in found:
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{len(found)} replicas run after {SECONDS:g} s, not {count}")

    def wait_until_all_answer(self, replicas: list[Replica]) -> dict[str, int]:
        """Wait until each replica has answered predictions. Return how many, by its id."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            counts = {each.id: answers(each.pid, self.path) for each in replicas}
            if all(counts.values()):
                return counts
            time.sleep(0.1)
        raise TimeoutError(f"a replica has not answered: {counts}")

    def problem(self, port: int) -> str:
        """Ask for the golden predictions. Return what is wrong with the answer, if anything."""
        try:
            answer = post_json(port, self.path, self.request)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        if answer.status != 200:
            return f"{answer.status}: {answer.body[:200].decode('utf-8', 'replace')}"
        expected = self.golden.predictions
        if not alike(answer.json()["predictions"], expected, TOLERANCE):
            return f"another prediction: {answer.body[:200].decode()}"
        return ""

    def load(self, port: int) -> "Load":
        return Load(self, port)


class Load:
    """Clients of one proxy, each with one request at a time, until it is left."""

    def __init__(self, service: Service, port: int) -> None:
        self._service = service
        self._port = port
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            if why := self._service.problem(self._port):
                ended = time.monotonic()
                self._service.failures.append(Failure(self._port, began, ended, why))
                time.sleep(0.1)
            else:
                self._service.answered += 1


def answers(pid: int, path: str) -> int:
    """Count the predictions of a replica, in its log."""
    logs = Path(ray._private.worker._global_node.get_session_dir_path(), "logs")
    return sum(
        log.read_text(encoding="utf-8", errors="replace").count(f'"message": "POST {path} 200"')
        for log in logs.glob(f"worker-*-{pid}.*")
    )


@contextmanager
def cluster_of_one() -> Iterator[Cluster]:
    """Start a cluster that has a head; it notices a dead node within five seconds."""
    config = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    head = {"num_cpus": 3, "node_ip_address": HOST, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": config})
    try:
        ray.init(address=cluster.address, log_to_driver=False, _node_ip_address=HOST)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def configuration(project: Path, port: int) -> dict[str, Any]:
    """Return a service's serve.yaml for this machine: loopback, and settings for a short run."""
    path = project / "deploy/ray/serve.yaml"
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["http_options"] |= {"host": HOST, "port": port}
    (application,) = document["applications"]
    sources = [str(project / "src"), str(project / "deploy/ray"), os.environ["PYTHONPATH"]]
    application["runtime_env"]["env_vars"] |= {
        **SETTINGS,
        "SERVICE_MODEL_DIR": str(project / "models"),
        "PYTHONPATH": os.pathsep.join(sources),
    }
    return document


def observe(cluster: Cluster, project: Path, port: int, other_port: int) -> dict[str, Any]:
    """Serve a project, take a replica and a node away from it. Return what was seen."""
    began = time.monotonic()
    other = cluster.add_node(num_cpus=3, node_ip_address=HOST)
    service = Service(Golden.of(project))
    document = configuration(project, port)
    client = api.serve_start(
        proxy_location=document["proxy_location"],
        http_options=document["http_options"],
        global_logging_config=document["logging_config"],
    )
    client.deploy_apps(ServeDeploySchema.model_validate(document))
    seen: dict[str, Any] = {"one": service.wait_for(1), "golden": [service.problem(port)]}
    loads = [service.load(port)]
    replicas = service.wait_for(3)
    if not wait_until(lambda: answers_ready(other_port), SECONDS):
        raise TimeoutError("the other node has no proxy")
    loads.append(service.load(other_port))
    seen |= {"three": replicas, "answers": service.wait_until_all_answer(replicas)}
    seen |= {"headers": headers_of(port), "other": other.node_id}

    lost = next(each for each in replicas if each.node != other.node_id)
    seen["replica_killed"] = time.monotonic()
    os.kill(lost.pid, signal.SIGKILL)
    replicas = service.wait_for(3, without=lost)
    seen |= {"replica_back": time.monotonic(), "lost": lost, "after_replica": replicas}
    service.wait_until_all_answer(replicas)

    lost = next(each for each in replicas if each.node == other.node_id)
    seen["node_killed"] = time.monotonic()
    cluster.remove_node(other, allow_graceful=False)
    seen["node_gone"] = time.monotonic()
    loads.pop().stop()
    replicas = service.wait_for(3, without=lost)
    seen |= {"node_back": time.monotonic(), "after_node": replicas}
    service.wait_until_all_answer(replicas)

    loads.pop().stop()
    seen |= {"idle": time.monotonic(), "one_again": service.wait_for(1)}
    seen["shrunk"] = time.monotonic()
    seen["golden"].append(service.problem(port))
    (name,) = (each["name"] for each in document["applications"])
    client.delete_apps([name])
    seen |= {"failures": service.failures, "answered": service.answered}
    seen["seconds"] = time.monotonic() - began
    return seen


def headers_of(port: int) -> list[tuple[str, str]]:
    """Return the headers of an answer, doubled ones too."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.request("GET", "/v2/health/live")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.getheaders()


def main(report: str, port: int, other_port: int, *projects: str) -> None:
    with cluster_of_one() as cluster:
        seen = {name: observe(cluster, Path(name), port, other_port) for name in projects}
    Path(report).write_text(json.dumps(seen, default=asdict), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
