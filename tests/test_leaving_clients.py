"""Clients that do not wait for their answer, at each framework on each server."""

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ALL_VARIANTS, Covers

from inferplate.live import Golden, in_flight
from inferplate.matrix import Variant
from inferplate.running import Service, wait_until
from inferplate.wire import HOST, json_request, post_json, samples
from inferplate.workbench import Workbench

RUNTIME = Path(__file__).parent / "serving" / "held_runtime.py"
PAIRS = [variant for variant in ALL_VARIANTS if variant.runtime == "python"]
CLIENTS = 100
SETTINGS = {"SERVICE_MAX_BATCH_SIZE": "1", "SERVICE_WARMUP": "false"}
PATIENCE = 20


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.framework}-{pair.server}")
def test_clients_that_do_not_wait(
    pair: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("clients that time out or leave: queue freed, model runs once", pair, len(PAIRS))
    project = copy_of(pair)
    shutil.copy(RUNTIME, project / "src/service/runtime.py")
    golden = Golden.of(project)
    requests = {
        "/predict": {"instances": golden.instances[:1]},
        golden.infer_path: json_request([tensor.of_rows([0]) for tensor in golden.inputs]),
    }
    hold, runs = project / "models/hold", project / "models/runs"
    with Service(project, bench.python, SETTINGS) as service:
        service.wait_ready()
        runs.unlink()  # those of the trial
        hold.touch()
        with asking(service.port, requests, "Request-Timeout: 0.5\r\n") as clients:
            assert {status(client) for client in clients} == {504}
        assert queued(service) == 0
        assert rejected(service, "deadline") == CLIENTS

        with asking(service.port, requests) as clients:
            assert wait_until(lambda: queued(service) == CLIENTS, PATIENCE), queued(service)
        assert wait_until(lambda: queued(service) == 0, PATIENCE), queued(service)
        assert wait_until(lambda: rejected(service, "disconnected") == CLIENTS, PATIENCE), rejected(
            service, "disconnected"
        )
        assert wait_until(lambda: in_flight(service.port) == 1, PATIENCE)
        assert runs.read_text() == "begin 1\n", "the first of all still runs, and no other"

        hold.unlink()
        for path, request in requests.items():
            assert post_json(service.port, path, request).status == 200
        assert runs.read_text() == "begin 1\nend 1\n" * 3


@contextmanager
def asking(port: int, requests: dict[str, Any], headers: str = "") -> Iterator[list[socket.socket]]:
    """Send requests from clients with a connection each; leaving it, the clients leave."""
    clients = []
    try:
        for number in range(CLIENTS):
            path, request = list(requests.items())[number % len(requests)]
            body = json.dumps(request)
            client = socket.create_connection((HOST, port), timeout=PATIENCE)
            clients.append(client)
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{headers}"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                f"{body}".encode("ascii")
            )
        yield clients
    finally:
        for client in clients:
            client.close()


def status(client: socket.socket) -> int:
    found = re.match(rb"HTTP/1.1 ([0-9]{3}) ", client.recv(4096))
    assert found
    return int(found[1])


def queued(service: Service) -> float:
    return sum(value for _, value in samples(service.port, "inference_queue_rows"))


def rejected(service: Service, reason: str) -> float:
    return sum(
        value
        for labels, value in samples(service.port, "inference_rejected_total")
        if f'reason="{reason}"' in labels
    )
