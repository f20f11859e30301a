"""The rounds of a run, without servers: what is done before anything is measured."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inferplate.template.variants import Variant
from inferplate_tools.bench import machine, run
from inferplate_tools.bench import server as processes
from inferplate_tools.bench.contestants import Contestant, Exchange
from inferplate_tools.bench.load import Closed, Sample
from inferplate_tools.bench.machine import Pinning
from inferplate_tools.bench.models import Model
from inferplate_tools.bench.peers import read_peers
from inferplate_tools.bench.results import Results
from inferplate_tools.bench.stages import chosen
from inferplate_tools.errors import CheckFailed
from inferplate_tools.workbench import Workbench

ROUNDS = 2
QUESTIONS = [("json", connections) for connections in (1, 16, 64)]
SERVICE, PEER = "fastapi", "naive FastAPI"
SAMPLE = Sample(10, 100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 0, 5.0)


@dataclass
class Stage:
    """Stands for the machine: it notes what happens to whom, and answers nothing.

    ``broken``: the connections at which the peer's answers are wrong. ``installed``: the services,
    by name, and the Python that each of them was to be installed on.
    """

    events: list[tuple[str, ...]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    installed: list[tuple[str, str | None]] = field(default_factory=list)
    results: Results | None = None

    def of(self, name: str) -> list[tuple[str, ...]]:
        return [event[1:] for event in self.events if event[0] in (name, "")]


class Server:
    """Stands for a process tree."""

    seconds_to_ready = 1.0

    def __init__(self, stage: Stage, name: str) -> None:
        self.port = name
        self._note: Callable[..., None] = lambda what: stage.events.append((name, what))

    def wait_ready(self, _: float) -> None:
        self._note("ready")

    def resident_mb(self) -> float:
        return 1.0

    def settle(self, _: float) -> None:
        self._note("settle")

    def wait_alive(self, _: float) -> None:
        self._note("alive")

    def freeze(self) -> None:
        self._note("freeze")

    def thaw(self) -> None:
        self._note("thaw")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Stage]:
    """Carry out a run of a service and a peer, at 1, 16 and 64 connections."""
    seen = Stage()

    def contestant(name: str, *, is_peer: bool) -> Contestant:
        class Asked(Exchange):
            def check(self, port: Any) -> None:
                seen.events.append((port, "check"))

        wires = {"json": lambda rows: Asked(None, lambda _: True)}  # type: ignore[arg-type]
        return Contestant(name, [name], tmp_path, {}, "/", wires, "python", is_peer)

    @contextmanager
    def start(command: list[str], *_: object, **__: object) -> Iterator[Server]:
        yield Server(seen, command[0])

    def measure(server: Server, _: object, load: Closed, *, seconds: float, **__: Any) -> Sample:
        seen.events.append((str(server.port), "measure", str(load.connections), f"{seconds:g}"))
        if str(server.port) == PEER and load.connections in seen.broken:
            raise CheckFailed("no request was answered")
        return SAMPLE

    def sleep(seconds: float) -> None:
        seen.events.append(("", f"sleep {seconds:g}"))

    monkeypatch.setattr(run, "Server", start)
    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr("inferplate_tools.bench.run.time.sleep", sleep)
    monkeypatch.setattr(run, "prepare_peer", lambda *_: contestant(PEER, is_peer=True))

    def prepare_service(*_: object, name: str, python: str | None, **__: object) -> Contestant:
        seen.installed.append((name, python))
        return contestant(name, is_peer=False)

    monkeypatch.setattr(run, "prepare_service", prepare_service)
    monkeypatch.setattr(machine, "pinning", lambda _: Pinning(frozenset({0}), frozenset({0})))
    monkeypatch.setattr(machine, "pin_self", lambda _: None)
    monkeypatch.setattr(run._Stage, "_run_alone", lambda *_: None)

    def carry_out(broken: set[int] = frozenset(), pythons: Sequence[str] = ()) -> Stage:  # type: ignore[assignment]
        seen.broken = set(broken)
        loads = [Closed(connections) for _, connections in QUESTIONS]
        plan = run.Plan(
            [Variant(SERVICE, "onnxruntime", "uvicorn")],
            read_peers("naive")[:1],
            chosen(["tabular"], ["json"], [1], loads, [1]),
            rounds=ROUNDS,
            seconds=7,
            pythons=pythons,
        )
        model = Model("tabular", Path("model.onnx"), (), (), None)
        seen.results = run.carry_out(plan, Workbench(tmp_path), lambda _: model, lambda *_: None)
        return seen

    return carry_out


def test_every_question_is_warmed_up_before_the_first_is_measured(
    stage: Callable[..., Stage],
) -> None:
    seen = stage()
    for name in (SERVICE, PEER):
        measured = [event[1:] for event in seen.of(name) if event[0] == "measure"]
        connections = [str(connections) for _, connections in QUESTIONS]
        assert measured[: len(QUESTIONS)] == [(each, "1") for each in connections]
        assert measured[len(QUESTIONS) :] == [(each, "7") for each in connections] * ROUNDS
    assert seen.results
    assert seen.results.failures == []
    for by_contestant in seen.results.samples.values():
        assert {name: len(found) for name, found in by_contestant.items()} == {
            SERVICE: ROUNDS,
            PEER: ROUNDS,
        }


def test_a_peer_is_thawed_a_moment_before_it_is_measured(stage: Callable[..., Stage]) -> None:
    seen = stage()
    moment = f"sleep {run._THAWED_SECONDS:g}"
    about_peer = [event[0] for event in seen.of(PEER)]
    measurement = ["thaw", moment, "alive", "check", "measure", "check", "freeze"]
    assert about_peer == ["ready", "settle", "freeze", *measurement * len(QUESTIONS) * (1 + ROUNDS)]
    assert run._THAWED_SECONDS > 0
    assert {event[0] for event in seen.of(SERVICE)} == {
        *("ready", "settle", "check", "measure"),
        moment,
    }


def test_a_question_that_fails_takes_no_other_with_it(stage: Callable[..., Stage]) -> None:
    seen = stage(broken={16})
    assert seen.results
    assert seen.results.failures == [
        f"{PEER}, tabular, json, 16 connections: no request was answered"
    ]
    measured = [event[1] for event in seen.of(PEER) if event[0] == "measure"]
    assert measured == ["1", "16", "64", *["1", "64"] * ROUNDS]
    assert [event[0] for event in seen.of(PEER)][-1] == "freeze"


def test_a_server_settles_when_it_rests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = processes.Server([], tmp_path, {}, ready="/", processors=[0])
    clock, slept = itertools.count(step=0.4), list[float]()
    monkeypatch.setattr("inferplate_tools.bench.server.time.sleep", slept.append)
    monkeypatch.setattr("inferplate_tools.bench.server.time.monotonic", lambda: next(clock))
    used = itertools.chain([1.0, 1.5, 1.9, 1.95], itertools.repeat(9.0))
    monkeypatch.setattr(server, "cpu_seconds", lambda: next(used))
    server.settle(60)
    assert len(slept) == 3
    slept.clear()
    busy = itertools.count(step=0.5)
    monkeypatch.setattr(server, "cpu_seconds", lambda: next(busy))
    server.settle(4)
    assert 5 < len(slept) < 15, "it gives up at last"


def test_a_service_is_installed_and_asked_on_each_python(stage: Callable[..., Stage]) -> None:
    seen = stage(pythons=["3.11", "3.13"])
    names = [f"{SERVICE} on Python 3.11", f"{SERVICE} on Python 3.13"]
    assert seen.installed == list(zip(names, ["3.11", "3.13"], strict=True))
    assert seen.results
    for by_contestant in seen.results.samples.values():
        assert list(by_contestant) == [*names, PEER]


def test_a_service_is_on_this_python_unless_one_is_chosen(stage: Callable[..., Stage]) -> None:
    assert stage().installed == [(SERVICE, None)]
