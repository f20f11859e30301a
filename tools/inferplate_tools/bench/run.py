"""Carries a plan out: starts the contestants of a stage, and asks them in turn, round by round."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Final

from inferplate.template.variants import Variant
from inferplate_tools.bench import machine
from inferplate_tools.bench.contestants import Contestant, Exchange
from inferplate_tools.bench.load import Open, allow_connections, measure, offered
from inferplate_tools.bench.machine import Pinning
from inferplate_tools.bench.models import Model
from inferplate_tools.bench.peers import Peer, prepare_peer
from inferplate_tools.bench.results import Footprint, Question, Results
from inferplate_tools.bench.server import Server
from inferplate_tools.bench.services import EXAMPLE, prepare_service
from inferplate_tools.bench.stages import ASKED_EVERYTHING, Scenario, Share, Stage
from inferplate_tools.errors import CheckFailed
from inferplate_tools.workbench import Workbench

_WARM_UP_SECONDS: Final = 1
_SETTLE_SECONDS: Final = 10.0
"""The longest that a server is given to rest once it is ready; it may be frozen then."""
_THAWED_SECONDS: Final = 0.5
"""A peer that was frozen has this long for what it missed, such as health checks of its own."""
_ALIVE_SECONDS: Final = 30.0
"""For a peer that restarts parts of itself after it was frozen for long."""
_START_SECONDS: Final = {False: 3.5, True: 8.5}
"""An estimate of how long a service or a peer takes to prepare and start."""
_ASKING_SECONDS: Final = 0.5
"""An estimate of how long it takes to check an answer and to start a load generator."""
_ALONE_SECONDS: Final = 2.0
"""An estimate of how long a run of the model alone takes."""
_READY_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long.

    ``shared_python``: an interpreter that has what everything needs, None for an environment for
    each. ``pythons``: what each service is installed on, versions or paths; only this one if empty.
    """

    variants: Sequence[Variant]
    peers: Sequence[Peer]
    stages: Sequence[Stage]
    rounds: int
    seconds: int
    shared_python: str | None = None
    pythons: Sequence[str] = ()

    def duration(self) -> float:
        """Estimate how many seconds it takes."""
        return sum(self._stage_seconds(stage) for stage in self.stages)

    def services(self) -> list[tuple[Variant, str | None]]:
        """Pair each variant with each Python that it is installed on."""
        pythons = self.pythons or (None,)
        return [(variant, python) for variant in self.variants for python in pythons]

    def peers_of(self, stage: Stage) -> Sequence[Peer]:
        return self.peers if stage.workers == 1 and stage.model != EXAMPLE else ()

    def _stage_seconds(self, stage: Stage) -> float:
        peers = self.peers_of(stage)
        starts = _START_SECONDS[False] * len(self.services()) + _START_SECONDS[True] * len(peers)
        asked = sum(
            self._asking_seconds(is_peer=False) * len(self.services())
            + self._asking_seconds(is_peer=True) * sum(takes_part(peer, scenario) for peer in peers)
            for scenario in stage.scenarios
        )
        return starts + asked + self._alone_seconds(stage)

    def _asking_seconds(self, *, is_peer: bool) -> float:
        """Estimate how long a question takes in all rounds."""
        warm_up = asking_seconds(_WARM_UP_SECONDS, is_peer=is_peer)
        return warm_up + self.rounds * asking_seconds(self.seconds, is_peer=is_peer)

    def _alone_seconds(self, stage: Stage) -> float:
        if stage.workers > 1 or stage.model == EXAMPLE:
            return 0.0
        sizes = {scenario.rows for scenario in stage.scenarios}
        return _ALONE_SECONDS * len(sizes) * (1 + self.rounds)


@dataclass(frozen=True)
class Step:
    """What is being done, for who watches; ``seconds``: how much of the duration it was."""

    text: str
    seconds: float = 0.0
    question: Question | None = None


Watch = Callable[[Step, Results], None]


@dataclass(frozen=True)
class _Running:
    contestant: Contestant
    peer: Peer | None
    server: Server
    idle_mb: float


def takes_part(peer: Peer, scenario: Scenario) -> bool:
    """Return whether a scenario includes a peer: only our services take tensors and instances."""
    return scenario.wire == "json" and (not scenario.few_peers or peer.name in ASKED_EVERYTHING)


def asking_seconds(seconds: float, *, is_peer: bool) -> float:
    """Estimate how long it takes to put load on something for some seconds, with all around it."""
    return seconds + _ASKING_SECONDS + (_THAWED_SECONDS if is_peer else 0)


def carry_out(
    plan: Plan, bench: Workbench, model_of: Callable[[str], Model | None], watch: Watch
) -> Results:
    """Measure everything in a plan. What fails is noted, and the rest goes on.

    ``model_of``: finds the model of a stage, None for the one that a project trains itself.
    """
    results = Results(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        tools=machine.tool_versions(),
        rounds=plan.rounds,
        seconds=plan.seconds,
    )
    allow_connections()
    for number, stage in enumerate(plan.stages):
        pins = machine.pinning(stage.workers)
        machine.pin_self(pins.client)
        folder = bench.root / f"stage-{number}"
        folder.mkdir(parents=True)
        _Stage(plan, stage, bench, folder, pins, results, watch).carry_out(model_of(stage.model))
    return results


@dataclass
class _Stage:
    plan: Plan
    stage: Stage
    bench: Workbench
    folder: Path
    pins: Pinning
    results: Results
    watch: Watch

    def carry_out(self, model: Model | None) -> None:
        with ExitStack() as stack:
            running = [one for one in self._started(model, stack) if one]
            self._run_alone(model)
            asked = [entry for entry in self._asked(running) if self._ask(entry, warm_up=True)]
            for _ in range(self.plan.rounds):
                asked = [entry for entry in asked if self._ask(entry)]
                self._run_alone(model)
            for one in running:
                self._note_memory(one)

    def _started(self, model: Model | None, stack: ExitStack) -> Iterator[_Running | None]:
        for number, (variant, python) in enumerate(self.plan.services()):
            name = _title(variant, self.plan.variants)
            if python:
                name += f" on Python {python}"
            prepare = partial(
                prepare_service,
                self.bench,
                variant,
                model,
                self.folder / f"{number}-{variant.name}",
                name=name,
                workers=self.stage.workers,
                shared_python=self.plan.shared_python,
                python=python,
            )
            yield self._start(name, None, prepare, stack)
        if model is None:
            return
        for peer in self.plan.peers_of(self.stage):
            folder = self.folder / peer.name
            prepare = partial(prepare_peer, peer, model, folder, self.plan.shared_python)
            yield self._start(peer.title, peer, prepare, stack)

    def _start(
        self, name: str, peer: Peer | None, prepare: Callable[[], Contestant], stack: ExitStack
    ) -> _Running | None:
        seconds = _START_SECONDS[peer is not None]
        self._show(f"{self.stage.model}: starting {name}")
        try:
            contestant = prepare()
            server = stack.enter_context(
                Server(
                    contestant.command,
                    contestant.folder,
                    contestant.environment,
                    ready=contestant.ready,
                    processors=self.pins.server,
                )
            )
            server.wait_ready(_READY_SECONDS)
            server.settle(_SETTLE_SECONDS)
        except (CheckFailed, OSError) as error:
            self._fail(f"{name}, {self.stage.model}", error)
            self._show(f"{self.stage.model}: {name} failed", seconds)
            return None
        self.results.versions[name] = contestant.versions
        one = _Running(contestant, peer, server, server.resident_mb())
        if peer:
            self.results.peers.add(name)
            server.freeze()
        self._show(f"{self.stage.model}: {name} is ready", seconds)
        return one

    def _asked(self, running: Sequence[_Running]) -> Iterator["_Asked"]:
        for scenario in self.stage.scenarios:
            question = self._question(scenario)
            for one in running:
                if one.peer is None or takes_part(one.peer, scenario):
                    exchange = one.contestant.wires[scenario.wire](scenario.rows)
                    yield _Asked(one, question, exchange)

    def _question(self, scenario: Scenario) -> Question:
        load = scenario.load
        if isinstance(load, Share):
            (capacity,) = self.results.alone[self.stage.model, scenario.rows][:1]
            load = Open(load.rate(capacity))
        if isinstance(load, Open):
            load = Open(offered(load.rate))
        return Question(self.stage.model, self.stage.workers, scenario.wire, scenario.rows, load)

    def _ask(self, entry: "_Asked", *, warm_up: bool = False) -> bool:
        """Measure once, and return whether to go on with it."""
        seconds = _WARM_UP_SECONDS if warm_up else self.plan.seconds
        name, server = entry.one.contestant.name, entry.one.server
        self._show(f"{entry.question}: {name}", question=entry.question)
        try:
            if entry.one.peer:
                server.thaw()
                time.sleep(_THAWED_SECONDS)
                server.wait_alive(_ALIVE_SECONDS)
            entry.exchange.check(server.port)
            sample = measure(
                server,
                entry.exchange.request,
                entry.question.load,
                seconds=seconds,
                processors=self.pins.client,
            )
            entry.exchange.check(server.port)
        except (CheckFailed, OSError, HTTPException) as error:
            self._fail(f"{name}, {entry.question}", error)
            return False
        finally:
            if entry.one.peer:
                server.freeze()
        if not warm_up:
            self.results.add(entry.question, name, sample)
        taken = asking_seconds(seconds, is_peer=entry.one.peer is not None)
        self._show(f"{entry.question}: {name}", taken, entry.question)
        return True

    def _run_alone(self, model: Model | None) -> None:
        if model is None or self.stage.workers > 1:
            return
        for rows in sorted({scenario.rows for scenario in self.stage.scenarios}):
            self._show(f"{model.name}: the model alone, {rows} rows a call")
            command = [
                sys.executable,
                "-m",
                "inferplate_tools.bench.alone",
                str(model.path),
                str(rows),
            ]
            done = subprocess.run(  # noqa: S603 - our own interpreter
                ["taskset", "--cpu-list", str(min(self.pins.server)), *command, "1"],  # noqa: S607
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            rate = found["calls"] / found["seconds"]
            self._show(f"{model.name}: the model alone", _ALONE_SECONDS)
            self.results.alone.setdefault((model.name, rows), []).append(rate)

    def _note_memory(self, one: _Running) -> None:
        self.results.footprints.append(
            Footprint(
                contestant=one.contestant.name,
                model=self.stage.model,
                workers=self.stage.workers,
                ready_seconds=one.server.seconds_to_ready,
                idle_mb=one.idle_mb,
                loaded_mb=one.server.resident_mb(),
            )
        )

    def _fail(self, what: str, error: Exception) -> None:
        self.results.failures.append(f"{what}: {' '.join(str(error).split())}")

    def _show(self, text: str, seconds: float = 0, question: Question | None = None) -> None:
        self.watch(Step(text, seconds, question), self.results)


@dataclass(frozen=True)
class _Asked:
    one: _Running
    question: Question
    exchange: Exchange


def _title(variant: Variant, among: Sequence[Variant]) -> str:
    """Name a variant by what it differs in from the others: always the framework."""
    parts = [variant.framework]
    for axis in ("runtime", "server"):
        if len({getattr(other, axis) for other in among}) > 1:
            parts.append(getattr(variant, axis))
    return " ".join(parts)
