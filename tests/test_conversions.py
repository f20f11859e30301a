"""What predict.py may do, as docs/refuse-lookup-ragged.md shows it, in services that really run."""

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferplate.template.source import template_root
from inferplate_tools.client import HeldRequest, post_json
from inferplate_tools.service import Service, wait_until
from inferplate_tools.workbench import Workbench

PAGE = (template_root() / "docs/refuse-lookup-ragged.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
REFUSE, SETTING, LOOK_UP, RAGGED = BLOCKS
CUSTOMERS = {"/": [], "/customers/1": [1.0, 2.0], "/customers/2": [30.0, 40.0]}
SERVERS = [
    ("fastapi", "uvicorn"),
    ("litestar", "uvicorn"),
    ("ninja", "uvicorn"),
    ("fastapi", "granian"),
    ("fastapi", "gunicorn"),
    ("fastapi", "hypercorn"),
]
RESOURCES = """

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

_RECORD = Path(os.environ["OWN_RECORD"])


def _note(event: str) -> None:
    with _RECORD.open("a") as record:
        record.write(f"{event} {os.getpid()}\\n")


@asynccontextmanager
async def resources() -> AsyncIterator[str]:
    if "OWN_BROKEN" in os.environ:
        raise ConnectionError("nobody listens at\\n127.0.0.1:5432")
    _note("opened")
    async with asyncio.TaskGroup() as group:
        listener = group.create_task(_listen())
        yield "open"
        listener.cancel()
    _note("closed")


async def _listen() -> None:
    while not Path(f"{_RECORD}.hung-up").exists():
        await asyncio.sleep(0.05)
    Path(f"{_RECORD}.hung-up").unlink()
    raise ConnectionError("the store hung up")


async def to_tensors(instances: Sequence[Instance], store: str) -> Tensors:
    assert store == "open"
    _note("asked")
    return {"features": np.array([[each.area] for each in instances], dtype=np.float32)}
"""


class Store(http.server.BaseHTTPRequestHandler):
    """Answers with the features of a customer."""

    def do_GET(self) -> None:
        features = CUSTOMERS.get(self.path)
        body = json.dumps(features).encode()
        self.send_response(404 if features is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def feature_store() -> Iterator[str]:
    """Serve the features of customers, and give the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def check(project: Path, bench: Workbench) -> None:
    """Check the owner's files with the project's own configuration."""
    for arguments in (["check"], ["format", "--check"]):
        bench.run([bench.python, "-m", "ruff", *arguments, "--no-cache"], project, timeout=60)
    with bench.mypy("src") as command:
        bench.run(command, project, timeout=300)


def put(project: Path, bench: Workbench, code: str) -> None:
    (project / "src/service/predict.py").write_text(code, encoding="utf-8")
    check(project, bench)


def asked(service: Service, *instances: Any) -> Any:
    answer = post_json(service.port, "/predict", {"instances": instances})
    assert answer.status in {200, 422}, answer.body
    return answer.json()


@pytest.mark.slow
def test_page_refuses(adder: Callable[..., Path], bench: Workbench) -> None:
    project = adder()
    put(project, bench, REFUSE)
    rental = {"start": "2026-07-01", "end": "2026-07-15"}
    with Service(project, bench.python, {}) as service:
        service.wait_ready()
        assert asked(service, rental)["predictions"] == [{"price": 22}]
        refused = asked(service, rental, rental, rental, {**rental, "end": "2026-06-30"})
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert refused["errors"] == json.loads(shown)["errors"]


@pytest.mark.slow
def test_page_looks_up(adder: Callable[..., Path], bench: Workbench) -> None:
    project = adder()
    settings = project / "src/service/settings.py"
    text = settings.read_text(encoding="utf-8")
    first = "from pydantic_settings"
    text = text.replace(first, f"from pydantic import Field\n{first}")
    end = 'extra="ignore"\n    )\n'
    assert end in text
    settings.write_text(text.replace(end, f"{end}\n{SETTING}"), encoding="utf-8")
    put(project, bench, LOOK_UP)
    basket = {"customer": 1, "basket": 20.0}
    with (
        feature_store() as address,
        Service(project, bench.python, {"OWN_FEATURE_STORE": address}) as service,
    ):
        service.wait_ready()
        found = asked(service, basket, {"customer": 2, "basket": 0.5})
        refused = asked(service, basket, {**basket, "customer": 3})
    assert [each["value"] for each in found["predictions"]] == [23, 70.5]
    assert refused["errors"] == [{"field": "instances.1.customer", "reason": "is not a customer"}]


@pytest.mark.slow
def test_page_has_ragged_rows(adder: Callable[..., Path], bench: Workbench) -> None:
    project = adder()
    put(project, bench, RAGGED)
    with Service(project, bench.python, {}) as service:
        service.wait_ready()
        found = asked(service, *({"values": values} for values in ([1, 2], [3], [4, 5, 6], [7])))
    assert [each["total"] for each in found["predictions"]] == [3, 3, 15, 7]


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "server"), SERVERS)
def test_each_worker_opens_its_resources_once(
    framework: str, server: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    project = adder(framework, server)
    add_resources(project)
    record = project / "record"
    settings = {"OWN_RECORD": str(record), "SERVICE_WORKERS": "2", "SERVICE_THREADS": "1"}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        opened = {pid for event, pid in events(record) if event == "opened"}
        assert len(opened) == len(events(record)) == 2
        request = {"instances": [{"area": 1.5}]}
        with HeldRequest(service.port, "/predict", request) as held:
            service.terminate()
            assert wait_until(lambda: not service.answers_ready(), 5)
            answer = held.finish()
        assert answer.json()["predictions"] == [{"total": 1.5}]
        service.wait_exit()
    assert {pid for event, pid in events(record) if event == "closed"} == opened
    (worker,) = [pid for event, pid in events(record) if event == "asked"]
    happened = [event for event, pid in events(record) if pid == worker]
    assert happened == ["opened", "asked", "closed"]


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "server"), SERVERS)
def test_resources_that_cannot_be_opened_are_told_in_a_line(
    framework: str, server: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    project = adder(framework, server)
    add_resources(project)
    settings = {"OWN_RECORD": str(project / "record"), "OWN_BROKEN": "1", "SERVICE_WORKERS": "2"}
    with Service(project, bench.python, settings) as service:
        assert wait_until(lambda: service.ended, 30)
        assert service.code == 1
    log = service.log.read_text(encoding="utf-8")
    assert log.splitlines()[-1] == (
        "service: the resources of predict.py cannot be opened: "
        "ConnectionError: nobody listens at 127.0.0.1:5432"
    )
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "server"), SERVERS)
def test_a_worker_whose_resources_end_is_replaced(
    framework: str, server: str, adder: Callable[..., Path], bench: Workbench
) -> None:
    project = adder(framework, server)
    add_resources(project)
    record = project / "record"
    settings = {"OWN_RECORD": str(record), "SERVICE_WORKERS": "2", "SERVICE_THREADS": "1"}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        (project / "record.hung-up").touch()
        assert wait_until(lambda: len(events(record)) == 3, 30), "a third one opens"
        service.wait_ready()
        assert asked(service, {"area": 1.5})["predictions"] == [{"total": 1.5}]
    log = service.log.read_text(encoding="utf-8")
    assert "the resources of predict.py ended: ConnectionError: the store hung up" in log


def add_resources(project: Path) -> None:
    code = (template_root() / "tests/foreign/no_examples/predict.py").read_text(encoding="utf-8")
    (project / "src/service/predict.py").write_text(code + RESOURCES, encoding="utf-8")


def events(record: Path) -> list[tuple[str, str]]:
    """Read what the workers have noted: events and processes."""
    if not record.exists():
        return []
    lines = record.read_text(encoding="utf-8").splitlines()
    return [(event, pid) for event, _, pid in (line.partition(" ") for line in lines)]
