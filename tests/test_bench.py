"""The parts of the benchmark: what is sent, what is made of the answers, what is written."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from inferplate.errors import InferplateError
from inferplate.template.variants import Variant
from inferplate_tools.bench import command, machine, models, services
from inferplate_tools.bench.contestants import matches, numbers_in
from inferplate_tools.bench.load import Closed, Open, Sample, offered, pacing, read_log, require
from inferplate_tools.bench.peers import peer_names, read_peers
from inferplate_tools.bench.plots import draw
from inferplate_tools.bench.results import (
    Footprint,
    Question,
    Results,
    as_json,
    claim,
    median,
    ratio,
    read,
)
from inferplate_tools.bench.run import Plan, takes_part
from inferplate_tools.bench.stages import BASELINES, Share, chosen, reference
from inferplate_tools.bench.tables import NAIVE, about, grids, markdown, number, question_grid
from inferplate_tools.errors import CheckFailed
from inferplate_tools.workbench import Workbench

TABULAR = Question("tabular", 1, "json", 1, Closed(16))


def sample(cpu_us: float = 100.0, p99_ms: float = 3.0, probe_ms: float = 5.0) -> Sample:
    return Sample(
        requests=10,
        rate=1e6 / cpu_us,
        cpu_us=cpu_us,
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=p99_ms,
        max_ms=p99_ms + 1,
        bad=0,
        probe_ms=probe_ms,
    )


def results(**samples: list[Sample]) -> Results:
    found = Results("2026-11-24T12:00:00+00:00", MACHINE, {"wrk": "4.1.0"}, rounds=2, seconds=1)
    found.samples[TABULAR] = {name.replace("_", " "): taken for name, taken in samples.items()}
    return found


MACHINE = {
    "processor": "Some processor",
    "processors": 2,
    "memory_gib": 8,
    "system": "Linux x86_64",
    "python": "3.11.0",
}


@given(st.floats(min_value=0.2, max_value=50_000))
def test_an_open_loop_offers_nearly_the_rate_that_was_asked_for(rate: float) -> None:
    group, period, connections = pacing(rate)
    assert offered(rate) == pytest.approx(rate, rel=0.06)
    assert connections % group == 0
    turn = connections / offered(rate)
    assert turn == pytest.approx(connections / group * period / 1000)
    assert turn == pytest.approx(0.5, abs=period / 2000 + 1e-9) or connections == group


def test_the_log_of_an_open_loop_counts_after_its_start_only() -> None:
    start = 10**15
    lines = [f"{start + 1000 * number}\t200\t{number}" for number in range(1000)]
    found = read_log("\n".join(lines), 1000)
    assert found.requests == 500
    assert found.sent == 1000
    assert found.p50_ms == pytest.approx(0.7495)
    assert found.max_ms == pytest.approx(0.999)
    assert found.bad == 0
    assert not found.late


def test_the_log_of_an_open_loop_counts_what_went_wrong() -> None:
    lines = ["0\t200\t10", "600000\t503\t10", "700000\t-1\t10", "800000\t200\t700000"]
    found = read_log("\n".join(lines), 6)
    assert found.requests == 3
    assert found.bad == 4, "an error, a lost stream, and two that are not in the log"
    assert found.late
    with pytest.raises(CheckFailed, match="sent nothing"):
        read_log("0\t200\t10", 1)


def test_a_missing_load_generator_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "h2load" else tool)
    with pytest.raises(InferplateError, match=r"h2load not found.*nghttp2-client"):
        require(["wrk", "h2load"])


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_LIBRARIES", ("numpy", "no_such_library"))
    with pytest.raises(InferplateError, match=r"no_such_library.*make bench"):
        command.bench()


@pytest.mark.parametrize("name", models.REFERENCE)
def test_a_reference_model_is_the_same_every_time(name: str, tmp_path: Path) -> None:
    first, again = (models.reference(name, tmp_path / folder) for folder in "ab")
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.is_typed
    (answer,) = first.answers(3).values()
    assert len(answer) == 3
    assert np.isfinite(answer).all()
    assert not np.allclose(answer[0], answer[1])
    np.testing.assert_allclose(first.answers(1)["scores"], answer[:1], rtol=1e-4, atol=1e-6)


def test_inputs_are_made_from_the_signature_of_any_model(own_model: Callable[..., Path]) -> None:
    model = models.load(own_model("My Model", [None, 2, "length"], TensorProto.INT64))
    assert model.name == "My-Model"
    assert not model.is_vector
    assert model.fixed_rows is None
    assert {name: array.shape for name, array in model.answers(3).items()} == {"y": (3, 2, 16)}
    assert models.load(own_model("fixed", [4, 2], TensorProto.FLOAT)).fixed_rows == 4


def test_a_model_that_cannot_be_asked_is_refused(
    own_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InferplateError, match="cannot be made up"):
        models.load(own_model("texts", [None], TensorProto.STRING))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(InferplateError, match="cannot load"):
        models.load(broken)


def test_every_peer_can_be_read() -> None:
    assert set(BASELINES) <= set(peer_names())
    for name in peer_names():
        plain, *variants = read_peers(name)
        assert plain.name == name
        assert all(peer.name.startswith(f"{name}-") for peer in variants)
        titles = [peer.title for peer in (plain, *variants)]
        assert len(set(titles)) == len(titles)
    assert read_peers("naive")[0].title == NAIVE


def test_a_peer_that_lacks_something_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    description = folder / "peer.toml"
    description.write_text('title = "half"\nrequirements = []\n', encoding="utf-8")
    with pytest.raises(InferplateError, match=r"peer\.toml lacks 'command'"):
        read_peers("half", tmp_path)
    description.write_text("title =", encoding="utf-8")
    with pytest.raises(InferplateError, match=r"peer\.toml: "):
        read_peers("half", tmp_path)


def test_peers_take_part_where_they_can() -> None:
    variants = [Variant("fastapi", "onnxruntime", "uvicorn")]
    naive, mlserver = (read_peers("naive")[0], read_peers("bare")[0])
    plan = Plan(variants, [naive, mlserver], reference(), rounds=1, seconds=1)
    asked = [scenario for stage in plan.stages for scenario in stage.scenarios]
    assert {scenario.wire for scenario in asked if takes_part(naive, scenario)} == {"json"}
    assert {len(plan.peers_of(stage)) for stage in plan.stages if stage.workers > 1} == {0}
    assert plan.duration() > sum(len(stage.scenarios) for stage in plan.stages)


def test_a_service_is_installed_on_the_python_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, bench: Workbench, tmp_path: Path
) -> None:
    asked = []

    def environment(*_: object, python: str | None, **__: object) -> str:
        asked.append(python)
        raise CheckFailed("it is not made here")

    monkeypatch.setattr(services, "environment", environment)
    for place, python in zip("ab", ("3.13", None), strict=True):
        with pytest.raises(CheckFailed, match="not made here"):
            services.prepare_service(
                bench,
                Variant("fastapi", "onnxruntime", "uvicorn"),
                None,
                tmp_path / place,
                name="fastapi",
                workers=1,
                shared_python=None,
                python=python,
            )
    assert asked == ["3.13", None]


def test_what_is_chosen_is_multiplied() -> None:
    stages = chosen(["tabular", "mlp"], ["json", "binary"], [1, 8], [Closed(1), Share(0.5)], [1, 2])
    assert [(stage.model, stage.workers) for stage in stages] == [
        ("tabular", 1),
        ("tabular", 2),
        ("mlp", 1),
        ("mlp", 2),
    ]
    assert {len(stage.scenarios) for stage in stages} == {8}


def test_answers_match_but_for_rounding() -> None:
    found = list(numbers_in({"predictions": [{"scores": [0.1, 0.9], "label": "b", "sure": True}]}))
    assert found == [0.1, 0.9]
    assert matches(found, [[1.0], [0.1001, 0.8999]])
    assert not matches(found, [[0.9, 0.1], [0.1, 0.9, 0.0]])


def test_ratios_are_taken_within_a_round() -> None:
    slow, fast = [sample(400), sample(800)], [sample(100), sample(200)]
    assert ratio(slow, fast, "cpu_us") == (4, 4, 4)
    assert ratio(slow, [], "cpu_us") == pytest.approx((math.nan,) * 3, nan_ok=True)
    assert median(slow, "cpu_us") == 600


def test_json_holds_numbers_only() -> None:
    document = json.loads(as_json(results(fastapi=[sample(probe_ms=math.inf)])))
    (measurement,) = document["measurements"]
    assert measurement["contestant"] == "fastapi"
    assert measurement["load"] == {"connections": 16}
    assert measurement["samples"][0]["probe_ms"] is None


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    found = results(fastapi=[sample(probe_ms=math.inf), sample()], naive_FastAPI=[sample(400)])
    found.samples[Question("mlp", 2, "binary", 8, Open(100.0))] = {"fastapi": [sample(50)]}
    found.alone["tabular", 1] = [50_000.0]
    found.footprints.append(Footprint("fastapi", "tabular", 1, 0.5, 100.0, 120.0))
    found.versions["fastapi"] = {"fastapi": "1.0"}
    found.peers.add(NAIVE)
    found.failures.append("ninja, tabular: ended")
    path = tmp_path / "results.json"
    path.write_text(as_json(found), encoding="utf-8")
    again = read(path)
    probe = again.samples[TABULAR]["fastapi"][0].probe_ms
    assert math.isnan(probe), "no answer came"
    assert as_json(again) == as_json(found)
    assert dict(again.samples[TABULAR], fastapi=[]) == dict(found.samples[TABULAR], fastapi=[])
    assert again.footprints == found.footprints


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    claim(tmp_path / "new")
    (tmp_path / "new" / "results.json").touch()
    with pytest.raises(InferplateError, match="results of another run"):
        claim(tmp_path / "new")
    with pytest.raises(InferplateError, match="cannot write to"):
        claim(tmp_path / "new" / "results.json" / "below")


def test_a_table_compares_with_naive_fastapi() -> None:
    found = results(fastapi=[sample(100), sample(50)], naive_FastAPI=[sample(400), sample(200)])
    found.alone["tabular", 1] = [50_000.0]
    grid = question_grid(found, TABULAR)
    fastapi, naive, alone = grid.rows
    assert fastapi == ("fastapi", "15,000", "75.0", "1.00", "3.00", "5.00", "0", "4.00")
    assert naive[-1] == "1.00"
    assert alone[:3] == ("the model alone", "50,000", "20.0")
    assert {len(row) for row in grid.rows} == {len(grid.columns)}
    assert grid.as_rich().row_count == 3


def test_a_report_says_where_it_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = results(fastapi=[sample()])
    assert "Some processor, 2 processors, 8 GiB, no accelerator, Linux x86_64" in about(found)
    assert "Python 3.11.0; wrk 4.1.0. 2 interleaved rounds of 1 s" in about(found)
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho Some card\necho Some card\n", encoding="utf-8")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found.machine = machine.describe()
    assert "GiB, Some card, Some card, Linux" in about(found)
    smi.write_text("#!/bin/sh\necho no driver\nexit 9\n", encoding="utf-8")
    assert machine.describe()["accelerators"] == []


def test_markdown_holds_every_table_plot_and_failure() -> None:
    found = results(fastapi=[sample()])
    found.failures.append("ninja, tabular: ended")
    text = markdown(found, list(grids(found)), ["plot.svg"])
    assert "Some processor" in text
    assert "![plot.svg](plot.svg)" in text
    assert "- ninja, tabular: ended" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| fastapi"))
    assert row.count("|") == 8


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_345.6, "12,346"), (12.34, "12.3"), (1.234, "1.23"), (math.nan, "-"), (math.inf, "none")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_plots_are_the_same_for_the_same_results(tmp_path: Path) -> None:
    found = results(fastapi=[sample()], naive_FastAPI=[sample(400)])
    for rate in (100.0, 200.0):
        question = Question("tabular", 1, "json", 1, Open(rate))
        found.samples[question] = {"fastapi": [sample(p99_ms=rate)]}
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        names = draw(found, tmp_path / name)
        assert names == ["tabular-json-16c.svg", "tabular-json-open.svg"]
        written.append([(tmp_path / name / plot).read_bytes() for plot in names])
    assert written[0] == written[1]
    for svg in written[0]:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "fastapi" in "".join(root.itertext())
    latencies = "".join(ElementTree.fromstring(written[0][1]).itertext())
    assert "p50" in latencies
    assert "p99" in latencies


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ([4, 2], {}, "own takes 4 rows: choose --rows 4"),
        ([None, 2], {"wire": ["typed"]}, "no predict.py describes instances of own"),
        ([None, 2, 2], {"peer": ["naive"]}, "peers take flat lists of floats: own takes"),
        ([None, 2], {"framework": ["fastpi"]}, "unknown framework"),
        ([None, 2], {"python": "no/python"}, "--python 'no/python' is not an interpreter"),
        (
            [None, 2],
            {"python": "python3", "python_version": ["3.13"]},
            "leave out --python-version",
        ),
    ],
)
def test_what_does_not_fit_a_model_is_refused_before_anything_is_started(
    shape: list[int | None],
    options: dict[str, Any],
    message: str,
    own_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = own_model("own", shape, TensorProto.FLOAT)
    with pytest.raises(InferplateError, match=message):
        command.bench(model=[str(path)], output=tmp_path / "results", **options)
    assert not (tmp_path / "results").exists()


@pytest.fixture
def own_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model that answers what it is asked, of a shape and an ONNX datatype."""

    def write(name: str, shape: list[int | str | None], datatype: int) -> Path:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "identity",
            [helper.make_tensor_value_info("x", datatype, shape)],
            [helper.make_tensor_value_info("y", datatype, shape)],
        )
        versions = [helper.make_opsetid("", 18)]
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), path)
        return path

    return write
