"""Constant load on two instances while one after the other is replaced: no request is lost.

They are stopped and probed with the times of the manifests for Kubernetes.
"""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import pytest
import uvloop
from balancer import Balancer
from conftest import Covers
from dotenv import dotenv_values
from manifests import Document, emit, read

from inferplate.template.variants import Variant
from inferplate_tools.client import HOST, Response, alike, binary_request, decode_outputs, post_json
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

VARIANTS = [
    Variant("fastapi", "onnxruntime", "uvicorn"),
    Variant("litestar", "onnxruntime", "granian"),
    Variant("ninja", "onnxruntime", "gunicorn"),
    Variant("fastapi", "onnxruntime", "hypercorn"),
]
DRAIN_DELAY: Final = "SERVICE_DRAIN_DELAY"
REQUESTS: Final = 20_000
REPLACEMENTS: Final = 6
KEPT, FRESH, SLOW = 8, 4, 2
"""Clients that keep their connection, that open one for each request, that send slowly."""
PAUSE: Final = 0.3
"""Seconds that the pause in a slow client's body is longer than the drain delay."""
ROUNDING: Final = 1e-5


@dataclass(frozen=True)
class Question:
    """A request and what is right about its answer."""

    path: str
    body: bytes
    headers: dict[str, str]
    accepts: Callable[[Response], bool]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.server)
def test_rolling_restart_loses_no_request(
    variant: Variant,
    copy_of: Callable[[Variant], Path],
    template: Path,
    tmp_path: Path,
    bench: Workbench,
    covers: Covers,
) -> None:
    covers("rolling restart under load: no request lost", variant.server, len(VARIANTS))
    project = copy_of(variant)
    base = emit(template, tmp_path / "manifests") / "deploy/kubernetes/base"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ExitStack() as stack:
        instances = Instances(project, bench.python, stack, Manifest.read(base))
        outcomes = runner.run(restart_under_load(instances))
    assert outcomes.keys() == {"answered"}, outcomes


@dataclass(frozen=True)
class Manifest:
    """What a pod is given: settings, its readiness probe, and seconds from SIGTERM to SIGKILL."""

    settings: dict[str, str]
    probe: Document
    grace: float

    @classmethod
    def read(cls, base: Path) -> Self:
        pod = read(base / "deployment.yaml")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        given = dotenv_values(base / "settings.env")
        times = {name: str(given[name]) for name in (DRAIN_DELAY, "SERVICE_GRACEFUL_TIMEOUT")}
        return cls(times, container["readinessProbe"], pod["terminationGracePeriodSeconds"])

    @property
    def drain_delay(self) -> float:
        return float(self.settings[DRAIN_DELAY])


class Instances:
    """Two instances of one service, the first with one worker and the second with two."""

    def __init__(self, project: Path, python: str, stack: ExitStack, manifest: Manifest) -> None:
        self._python: Final = python
        self._stack: Final = stack
        self.manifest: Final = manifest
        self._projects: Final = project, project.with_name("second")
        shutil.copytree(*self._projects)
        self.services: Final = [self._start(place) for place in range(2)]
        for service in self.services:
            service.wait_ready()

    def stop(self, place: int) -> None:
        """Stop an instance as an orchestrator does."""
        self.services[place].terminate()
        self.services[place].wait_exit(self.manifest.grace)

    def start(self, place: int) -> None:
        """Start the successor of an instance that was stopped."""
        self.services[place] = self._start(place)
        self.services[place].wait_ready()

    def _start(self, place: int) -> Service:
        settings = {
            "SERVICE_WORKERS": str(place + 1),
            "SERVICE_THREADS": "1",
            **self.manifest.settings,
        }
        return self._stack.enter_context(Service(self._projects[place], self._python, settings))


async def restart_under_load(instances: Instances) -> Counter[str]:
    """Replace instances until there were enough requests; return the number of each outcome."""
    first = instances.services[0]
    questions = itertools.cycle(ask_about(first.project, first.port))
    outcomes: Counter[str] = Counter()
    ports = [service.port for service in instances.services]
    slow = instances.manifest.drain_delay + PAUSE
    with Balancer(ports, instances.manifest.probe) as balancer:
        await asyncio.to_thread(balancer.wait_ready)
        ended = asyncio.Event()
        clients = [
            asyncio.create_task(
                client(balancer.port, questions, outcomes, ended, fresh=fresh, pause=pause)
            )
            for count, fresh, pause in ((KEPT, False, 0), (FRESH, True, 0), (SLOW, False, slow))
            for _ in range(count)
        ]
        for replacement in itertools.count():
            if replacement >= REPLACEMENTS and outcomes.total() >= REQUESTS:
                break
            place = replacement % 2
            await asyncio.to_thread(instances.stop, place)
            await asyncio.to_thread(instances.start, place)
            balancer.replace(place, instances.services[place].port)
            await asyncio.to_thread(balancer.wait_ready)
        ended.set()
        await asyncio.gather(*clients)
    return outcomes


async def client(
    port: int,
    questions: "itertools.cycle[Question]",
    outcomes: Counter[str],
    ended: asyncio.Event,
    *,
    fresh: bool,
    pause: float,
) -> None:
    """Ask one question after the other, over one connection or a ``fresh`` one for each."""
    connector = aiohttp.TCPConnector(limit=1, force_close=fresh)
    async with aiohttp.ClientSession(f"http://{HOST}:{port}", connector=connector) as session:
        for number in itertools.count():
            if ended.is_set():
                return
            outcomes[await outcome(session, next(questions), f"{id(session)}-{number}", pause)] += 1


async def outcome(
    session: aiohttp.ClientSession, question: Question, identity: str, pause: float
) -> str:
    """Ask once and say how it went: "answered" is the one good outcome."""
    headers = {**question.headers, "X-Request-ID": identity}
    body = halves(question.body, pause) if pause else question.body
    try:
        async with session.post(question.path, data=body, headers=headers) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            response = Response(answer.status, found, await answer.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        return repr(error)
    if response.status != 200 or found["x-request-id"] != identity:
        return f"{response.status} {response.body[:200]!r} for {found.get('x-request-id')}"
    return "answered" if question.accepts(response) else f"wrong: {response.body[:200]!r}"


async def halves(body: bytes, pause: float) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    await asyncio.sleep(pause)
    yield body[len(body) // 2 :]


def ask_about(project: Path, port: int) -> list[Question]:
    """Prepare questions of each endpoint, with one answer of each as the standard."""
    golden = Golden.of(project)
    as_json = {"Content-Type": "application/json"}
    outputs = decode_outputs(post_json(port, golden.infer_path, golden.infer_request))
    predictions = post_json(port, "/predict", golden.typed_request).json()["predictions"]

    def typed(row: int) -> Question:
        body = json.dumps({"instances": golden.instances[row:]}).encode()

        def accepts(response: Response) -> bool:
            return alike(response.json()["predictions"], predictions[row:], ROUNDING)

        return Question("/predict", body, as_json, accepts)

    def has_outputs(response: Response) -> bool:
        found: dict[str, Any] = decode_outputs(response)
        return alike(found, outputs, ROUNDING)

    binary = binary_request(golden.inputs)
    infer = json.dumps(golden.infer_request).encode()
    return [
        *map(typed, range(len(golden.instances))),
        Question(golden.infer_path, infer, as_json, has_outputs),
        Question(golden.infer_path, *binary, has_outputs),
    ]
