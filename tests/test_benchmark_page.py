"""The page of the benchmarks: its tables are those of the raw data beside it."""

import json
import re
import sys
from pathlib import Path

import pytest

from inferplate.template.source import template_root
from inferplate_tools.bench.load import Closed, Sample
from inferplate_tools.bench.peers import peer_names, read_peers
from inferplate_tools.bench.results import Footprint, Question, Results, as_json
from inferplate_tools.bench.tables import NAIVE

BENCHMARKS = template_root() / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import page  # noqa: E402
import publish  # noqa: E402
import targets  # noqa: E402

SERVICES = ("fastapi", "litestar", "ninja")
BLOCK = re.compile(r"<!-- figures: (\w+) (\S+) -->")


def sample(cpu_us: float, probe_ms: float = 5.0) -> Sample:
    return Sample(10, 1e6 / cpu_us, cpu_us, 1.0, 2.0, 3.0, 4.0, 0, probe_ms)


def results(costs: dict[str, float]) -> Results:
    """Make results in which a contestant costs the same whatever it is asked."""
    found = Results("2026-11-24T12:00:00+00:00", {}, {}, rounds=1, seconds=1)
    for model, connections in (("tabular", 16), ("tabular", 64), ("mlp", 16), ("embed", 16)):
        question = Question(model, 1, "json", 1, Closed(connections))
        found.samples[question] = {name: [sample(cost)] for name, cost in costs.items()}
    found.versions |= {name: {} for name in costs}
    found.peers |= {name for name in costs if name not in SERVICES}
    found.footprints.append(Footprint("fastapi", "tabular", 1, 0.52, 101.0))
    found.alone["embed", 1] = [170.0]
    return found


def test_every_table_of_the_page_is_that_of_its_raw_data() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, page.PAGE.parent) == text, "benchmarks/page.py writes it anew"


def test_every_table_stands_on_the_page_with_its_raw_data() -> None:
    found = dict(BLOCK.findall(page.PAGE.read_text(encoding="utf-8")))
    assert found.keys() == page.MAKERS.keys()
    for file in found.values():
        assert (page.PAGE.parent / file).is_file()


def test_a_run_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for run, cost in (("old", 100.0), ("new", 50.0)):
        file = tmp_path / "benchmarks" / run / "reference" / "results.json"
        file.parent.mkdir(parents=True)
        file.write_text(as_json(results({"fastapi": cost, NAIVE: 400.0})), encoding="utf-8")
    text = (
        "Before.\n\n<!-- figures: peers benchmarks/old/reference/results.json -->\nanything\n"
        "<!-- end of peers -->\n\nAfter.\n"
    )
    old = page.filled(text, tmp_path)
    assert "| **FastAPI** | 100 |" in old
    assert page.filled(text, tmp_path, "none") == old, "it has no raw data of this table"
    new = page.filled(old, tmp_path, "new")
    assert "<!-- figures: peers benchmarks/new/reference/results.json -->\n\n|" in new
    assert "| **FastAPI** | 50.0 |" in new
    assert page.filled(new, tmp_path) == new
    assert new.startswith("Before.\n\n<!--")
    assert new.endswith("-->\n\nAfter.\n")


def test_contestants_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    costs = {"fastapi": 100.0, "ninja": 150.0, NAIVE: 300.0, "Other": 200.0, "Another": 70.0}
    file.write_text(as_json(results(costs)), encoding="utf-8")
    overview = page.overview(file).splitlines()
    assert overview[2] == (
        "| tabular, JSON, 16 connections | 100 |  | 150 | 300 | 70.0 (Another) |  |"
    )
    assert overview[3] == "| … times naive | 3.00 |  | 2.00 | 1.00 |  |  |"
    names = [line.split(" | ")[0].strip("| ") for line in page.peers(file).splitlines()[2:]]
    assert names == ["Another", "**FastAPI**", "**Django Ninja**", "Other", NAIVE]
    assert page.peers(file).splitlines()[3].endswith("| 10,000 | 5.00 | 0.5 | 101 |")


def test_a_second_processor_has_its_table(tmp_path: Path) -> None:
    file = tmp_path / "processors.json"
    rounds = {"one": [90.0, 100.0, 110.0], "both": [180.0, 150.0, 130.0], "times": [2.0, 1.5, 1.2]}
    file.write_text(json.dumps([{"model": "mlp", "rows": 8, **rounds}]))
    (row,) = page.processors(file).splitlines()[2:]
    assert row == "| mlp, 8 rows a call | 100 | 150 | 1.50 |"


def test_load_and_soak_have_their_tables(tmp_path: Path) -> None:
    file = tmp_path / "overload.json"
    case = {"model": "5 ms", "deadline_seconds": 1.0, "maximum": 192.0, "offered": 1918.0}
    case |= {"goodput": 189.0, "latency_p99_seconds": 0.74, "live_max_seconds": 0.045}
    file.write_text(json.dumps([{**case, "memory_bytes": [2**20 * 69, 2**20 * 85]}]))
    (row,) = page.overload(file).splitlines()[2:]
    assert row == "| 5 ms | 1 | 192 | 1,918 | 189 | 98% | 0.74 | 45 | 69, 85 |"
    level = {"memory": 2**20 * 100, "files": 17, "threads": 5, "queued": 0, "in_flight": 0}
    file.write_text(json.dumps({"minutes": 60.0, "after warm-up": level, "at the end": level}))
    head, _, memory, *_ = page.soak(file).splitlines()
    assert head == "|  | after warm-up | after 60 minutes |"
    assert memory == "| resident memory, MiB | 100.0 | 100.0 |"


def test_pythons_are_compared_on_one_service(tmp_path: Path) -> None:
    costs = {"fastapi on Python 3.11": 100.0, "fastapi on Python 3.13": 90.0}
    found = results(costs)
    found.footprints = [
        Footprint(name, model, 1, 0.5, idle)
        for model, by_name in (("tabular", (111.0, 113.0)), ("mlp", (1.0, 1.0)))
        for name, idle in zip(costs, by_name, strict=True)
    ]
    file = tmp_path / "results.json"
    file.write_text(as_json(found), encoding="utf-8")
    head, _, *rows = page.pythons(file).splitlines()
    assert head == "| JSON, CPU µs | Python 3.11 | Python 3.13 |"
    assert rows[0] == "| tabular, 16 connections | 100 | 90.0 |"
    assert rows[2:] == [
        "| mlp, 16 connections | 100 | 90.0 |",
        "| mlp, 64 connections |  |  |",
        "| tabular, idle MB | 111 | 113 |",
    ]


def test_targets_tell_what_was_reached_and_what_was_missed() -> None:
    found = results({"fastapi": 100, "ninja": 300, NAIVE: 500, "Other": 900})
    found.footprints.clear()
    grid = targets.targets_grid(found)
    assert grid.columns == ("", "target", "fastapi", "ninja")
    reached = {row[0]: row[1:] for row in grid.rows}
    naive = "tabular, JSON, 16 connections: naive FastAPI's CPU / this"
    assert reached[naive] == ("≥ 4", "5.00", "1.67 missed")
    best = "tabular, JSON, 16 connections: the best peer's CPU / this"
    assert reached[best] == ("≥ 1", "9.00", "3.00")
    assert reached["one worker: slowest readiness probe, ms"] == ("≤ 50", "5.00", "5.00")
    assert reached["tabular: seconds to ready"] == ("≤ 1", "-", "-")
    names = [read_peers(name)[0].title for name in ("naive", "bare", "bare-inline")]
    assert names == [NAIVE, targets.BARE, targets.INLINE]
    titles = {peer.title for name in peer_names() for peer in read_peers(name)}
    assert {*targets.BASELINES, targets.MOSEC} <= titles


def test_a_published_run_has_every_peer_and_every_table(tmp_path: Path) -> None:
    written = {}
    for name, file, command in publish.steps(tmp_path, 60):
        written[name] = file.relative_to(tmp_path).as_posix()
        assert str(tmp_path) in " ".join(command)
        if name == "reference":
            assert [f"--peer={peer}" for peer in peer_names()] == command[
                -2 - len(peer_names()) : -2
            ]
    files = {Path(file).with_name("results.json").as_posix() for file in written.values()}
    files |= set(written.values())
    assert {file for _, file in page.MAKERS.values() if file} <= files


def test_nothing_is_measured_beside_other_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    class Done:
        returncode = 0

    def run(command: list[str], **_: object) -> Done:
        ran.append(command)
        return Done()

    monkeypatch.setattr("publish.subprocess.run", run)
    monkeypatch.setattr(publish, "load_of_others", lambda: 0.5)
    step = ("overload", tmp_path / "overload.json", ["benchmarks/overload.py"])
    with pytest.raises(SystemExit, match=r"overload: not started, as something else takes 0\.50"):
        publish.run(step)
    assert not ran
    monkeypatch.setattr(publish, "load_of_others", lambda: 0.1)
    assert publish.run(step)
    step[1].touch()
    assert publish.run(step)
    assert len(ran) == 1, "what is there is kept"
