"""Whether requests may share a batch: what running a model shows, and what follows from it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from managed.conftest import Serve, Start
from managed.support import INFER, Doubler, until, write_model
from service.core import examples
from service.core import manifest as manifests
from service.core.examples import Examples
from service.core.manifest import ArtifactError, Batch, Manifest, Tensor
from service.core.tensors import Tensors, TensorSpec
from service.core.trial import Verdict, try_out

X = ("x", "FP32", [-1, 3])
Y = ("y", "FP32", [-1, 3])
Compute = Callable[[Tensors], Tensors]


def manifest(
    inputs: Sequence[tuple[str, str, list[int]]] = (X,),
    outputs: Sequence[tuple[str, str, list[int]]] = (Y,),
    batch: Batch = "auto",
    batch_tolerance: float = 1e-3,
) -> Manifest:
    return Manifest(
        name="tried",
        version="1",
        runtime="test",
        file="tried.bin",
        sha256={},
        inputs=[Tensor(name=name, datatype=kind, shape=shape) for name, kind, shape in inputs],
        outputs=[Tensor(name=name, datatype=kind, shape=shape) for name, kind, shape in outputs],
        batch=batch,
        batch_tolerance=batch_tolerance,
    )


def tried(compute: Compute, described: Manifest, *own: Examples, **options: Any) -> Verdict:
    candidates = [*own, *examples.made_up(described.input_specs())]
    return try_out(compute, described, candidates, **options)


def given(**tensors: Any) -> Examples:
    return Examples(tensors, tensors, "the owner's examples", given=True)


def largest_first(tensors: Tensors) -> Tensors:
    scores = tensors["x"].max(axis=1)
    return {"y": tensors["x"][np.argsort(-scores)]}


def detections(tensors: Tensors) -> Tensors:
    return {"y": np.argwhere(tensors["x"] > 0.5)}


def pair_scores(tensors: Tensors) -> Tensors:
    return {"y": tensors["x"] @ tensors["z"].T}


class Counter:
    """A model that counts its calls."""

    calls = 0

    def __call__(self, tensors: Tensors) -> Tensors:
        self.calls += 1
        return {"y": tensors["x"] + self.calls}


@pytest.mark.parametrize(
    ("compute", "described"),
    [
        (lambda tensors: {"y": tensors["x"] * 2}, manifest()),
        (
            lambda tensors: {"y": tensors["x"].argmax(axis=1)},
            manifest(outputs=[("y", "INT64", [-1])]),
        ),
        (
            lambda tensors: {"y": tensors["x"].sum(axis=2)},
            manifest([("x", "INT64", [-1, -1, 4])], [("y", "INT64", [-1, -1])]),
        ),
        (
            lambda tensors: {"y": np.array([[len(text)] for text in tensors["x"]], np.int64)},
            manifest([("x", "BYTES", [-1])], [("y", "INT64", [-1, 1])]),
        ),
        (
            lambda tensors: {"y": tensors["x"] * tensors["z"][:, None]},
            manifest([X, ("z", "BOOL", [-1])]),
        ),
        (lambda tensors: {"y": np.log(tensors["x"])}, manifest()),
    ],
    ids=["numbers", "labels", "sequences", "texts", "two inputs", "NaN"],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_rows_that_do_not_affect_each_other_may_share_a_batch(
    compute: Compute, described: Manifest
) -> None:
    assert tried(compute, described) == Verdict(batched=True, reason="", timings={})


@pytest.mark.parametrize(
    ("compute", "described", "words"),
    [
        (detections, manifest(outputs=[("y", "INT64", [-1, 2])]), "shape"),
        (lambda tensors: {"y": tensors["x"] - tensors["x"].mean(axis=0)}, manifest(), "depends"),
        (lambda tensors: {"y": tensors["x"].cumsum(axis=0)}, manifest(), "depends"),
        (largest_first, manifest(), "depends"),
        (
            lambda tensors: {"y": np.sort(tensors["x"], axis=0)},
            manifest([("x", "BOOL", [-1, 3])], [("y", "BOOL", [-1, 3])]),
            "depends",
        ),
        (
            lambda tensors: {"y": tensors["x"][:1].repeat(len(tensors["x"]), 0)},
            manifest(),
            "depends",
        ),
        (lambda tensors: {"y": tensors["x"].max(axis=0, keepdims=True)}, manifest(), "shape"),
        (lambda tensors: {"y": np.ones((4, 3), np.float32)}, manifest(), "shape"),
        (
            lambda tensors: {"y": tensors["x"].ravel()},
            manifest([("x", "FP32", [-1, -1])], [("y", "FP32", [-1])]),
            "shape",
        ),
        (pair_scores, manifest([X, ("z", "FP32", [-1, 3])], [("y", "FP32", [-1, -1])]), "shape"),
        (Counter(), manifest(), "depends"),
        (lambda tensors: {"y": tensors["x"] * 2}, manifest(batch="never"), "the manifest says so"),
        (
            lambda tensors: {"y": np.float32(tensors["x"].sum())},
            manifest(outputs=[("y", "FP32", [])]),
            "the first axis of 'y' is fixed",
        ),
    ],
    ids=[
        "detections",
        "centred",
        "time",
        "sorted",
        "sorted flags",
        "first row",
        "aggregated",
        "constant",
        "flattened",
        "pairs",
        "state",
        "never",
        "scalar",
    ],
)
def test_rows_that_affect_each_other_run_alone(
    compute: Compute, described: Manifest, words: str
) -> None:
    verdict = tried(compute, described)
    assert not verdict.batched
    assert words in verdict.reason
    insisting = described.model_copy(update={"batch": "always"})
    if described.batch == "auto":
        with pytest.raises(ArtifactError, match="the manifest insists on batches"):
            tried(compute, insisting)


def flags_above(limit: float) -> Compute:
    """A model whose flag is set for all rows if one of them is above a limit."""
    return lambda tensors: {"y": np.full(len(tensors["x"]), tensors["x"].max() > limit)}


def test_rows_with_equal_answers_show_nothing() -> None:
    described = manifest(outputs=[("y", "BOOL", [-1])])
    verdict = tried(flags_above(1e6), described)
    assert not verdict.batched
    assert "'y' is the same for all made-up rows" in verdict.reason
    assert "examples.npz" in verdict.reason
    real = given(x=np.array([[0, 0, 0], [2e6, 0, 0], [0, 1, 0]], np.float32))
    assert "depends" in tried(flags_above(1e6), described, real).reason
    insisting = manifest(outputs=[("y", "BOOL", [-1])], batch="always")
    assert tried(flags_above(1e6), insisting).batched


def test_answers_whose_shapes_differ_cannot_share_a_batch() -> None:
    def positive(tensors: Tensors) -> Tensors:
        return {"y": tensors["x"][:, tensors["x"][0] > 0]}

    described = manifest(outputs=[("y", "FP32", [-1, -1])])
    real = given(x=np.array([[1, 2, 3], [0, 1, 0]], np.float32))
    assert "one row gives the output 'y' the shape" in tried(positive, described, real).reason


def test_examples_of_which_the_inputs_differ_in_length_are_no_rows() -> None:
    described = manifest([X, ("z", "FP32", [-1, 3])], [("y", "FP32", [-1, -1])])
    real = given(x=np.ones((1, 3), np.float32), z=np.ones((5, 3), np.float32))
    verdict = tried(pair_scores, described, real, warmup=True)
    assert verdict.reason == "the first axes of its inputs differ"
    assert list(verdict.timings) == [1]


def only_large(tensors: Tensors) -> Tensors:
    if tensors["x"].shape[1] < 5:
        raise ValueError("too small")
    return {"y": tensors["x"].mean(axis=1, keepdims=True)}


def only_ids_below(limit: int) -> Compute:
    return lambda tensors: {"y": np.eye(limit, dtype=np.float32)[tensors["x"]]}


def strict(tensors: Tensors) -> Tensors:
    return {"y": np.array([{b"red": 0, b"blue": 1}[text] for text in tensors["x"]])}


@pytest.mark.parametrize(
    ("compute", "described"),
    [
        (only_large, manifest([("x", "FP32", [-1, -1])], [("y", "FP32", [-1, 1])])),
        (only_ids_below(2), manifest([("x", "INT64", [-1])], [("y", "FP32", [-1, 2])])),
        (
            lambda tensors: {"y": np.asarray(np.max(tensors["x"], axis=1) > 500)},
            manifest(outputs=[("y", "BOOL", [-1])]),
        ),
    ],
    ids=["size", "ids", "magnitude"],
)
def test_made_up_rows_are_tried_in_several_ways(compute: Compute, described: Manifest) -> None:
    assert tried(compute, described).batched


def test_rows_are_made_up_in_the_range_of_an_example() -> None:
    described = manifest(outputs=[("y", "BOOL", [-1])])
    one = given(x=np.array([[1e-5, 2e-5, 1e-5]], np.float32))

    def between(tensors: Tensors) -> Tensors:
        inside = (tensors["x"] > 3e-5) & (tensors["x"] < 1e-4)
        return {"y": np.asarray(inside.any(axis=1))}

    assert not tried(between, described, one).batched
    assert tried(between, described, one, examples.varied(one)).batched


def test_a_model_that_fails_on_made_up_rows_needs_real_ones() -> None:
    described = manifest([("x", "BYTES", [-1])], [("y", "INT64", [-1])])
    verdict = tried(strict, described)
    assert not verdict.batched
    assert "fails on made-up rows" in verdict.reason
    assert "examples.npz" in verdict.reason
    real = given(x=np.array([b"red", b"blue"], object))
    assert tried(strict, described, real).batched
    wrong = given(x=np.array([b"red", b"green"], object))
    with pytest.raises(ArtifactError, match="fails on the owner's examples"):
        tried(strict, described, wrong)
    with pytest.raises(ArtifactError, match="insists on batches, but the model fails"):
        tried(strict, described.model_copy(update={"batch": "always"}))


def test_the_manifest_may_widen_the_tolerance() -> None:
    def rounded(tensors: Tensors) -> Tensors:
        return {"y": tensors["x"] + np.float32(0.1 * (len(tensors["x"]) > 1))}

    assert "depends" in tried(rounded, manifest()).reason
    assert tried(rounded, manifest(batch_tolerance=0.05)).batched


def test_a_batch_that_is_too_large_for_the_model_ends_batching() -> None:
    def up_to_eight(tensors: Tensors) -> Tensors:
        if len(tensors["x"]) > 8:
            raise ValueError("no more than eight")
        return {"y": tensors["x"] * 2}

    verdict = tried(up_to_eight, manifest(), warmup=True, max_batch_size=16)
    assert "a batch of 16 rows fails: no more than eight" in verdict.reason
    assert tried(up_to_eight, manifest(), warmup=True, max_batch_size=8).batched


def test_a_model_without_a_batch_is_warmed_up_too() -> None:
    verdict = tried(largest_first, manifest(), warmup=True, max_batch_size=8)
    assert not verdict.batched
    assert list(verdict.timings) == [1]


class Detector(Doubler):
    """A model whose output has a row for each number above a half."""

    def __init__(self) -> None:
        super().__init__(outputs=(TensorSpec("y", "FP32", (-1, 2)),))

    def run(self, batch: Tensors) -> Tensors:
        (x,) = batch.values()
        self.batches.append(len(x))
        return {"y": np.argwhere(x > 0.5).astype(np.float32)}


@pytest.mark.anyio
async def test_no_client_receives_a_row_of_another(serve: Serve) -> None:
    async with serve(Detector()) as service:

        async def infer(*data: float) -> Any:
            tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data}
            answer = await service.client.post(INFER, json={"inputs": [tensor]})
            return answer.json()["outputs"][0]["data"]

        asked = [(1, 1), (0, 0), (0, 1), (1, 0)] * 8
        answers = await asyncio.gather(*(infer(*data) for data in asked))
    assert answers == [[0, 0, 0, 1], [], [0, 1], [0, 0]] * 8


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "batch", "told"),
    [
        (Detector(), "auto", [logging.WARNING]),
        (Detector(), "never", [logging.INFO]),
        (Doubler(), "never", [logging.INFO]),
        (Doubler(), "auto", []),
    ],
)
async def test_it_is_logged_why_requests_run_one_at_a_time(
    start: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    model: Doubler,
    batch: Batch,
    told: list[int],
) -> None:
    folder = write_model(tmp_path / "doubler", model)
    manifests.read(folder).model_copy(update={"batch": batch}).write(folder)
    caplog.set_level(logging.INFO, "service")
    async with start(folder, model) as service:
        await until(lambda: service.engine.ready)
    found = [
        record.levelno
        for record in caplog.records
        if record.getMessage().startswith("requests run one at a time: ")
    ]
    assert found == told


@pytest.mark.anyio
async def test_inputs_without_a_batch_may_differ_in_their_first_axis(
    start: Start, tmp_path: Path
) -> None:
    class Scorer(Doubler):
        def run(self, batch: Tensors) -> Tensors:
            return {"y": batch["docs"] @ batch["query"].T}

    model = Scorer(
        inputs=(TensorSpec("query", "FP32", (-1, 2)), TensorSpec("docs", "FP32", (-1, 2))),
        outputs=(TensorSpec("y", "FP32", (-1, -1)),),
    )
    inputs = [
        {"name": "query", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "docs", "shape": [3, 2], "datatype": "FP32", "data": [1, 0, 0, 1, 1, 1]},
    ]
    async with start(write_model(tmp_path / "doubler", model), model) as service:
        await until(lambda: service.engine.ready)
        answer = await service.client.post(INFER, json={"inputs": inputs})
        metadata = (await service.client.get("/v2/models/doubler")).json()
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3]
    assert metadata["parameters"] == {"max_batch_size": 1}


@pytest.mark.anyio
async def test_examples_beside_the_manifest_are_what_the_model_must_run_on(
    start: Start, folder: Path, failures: list[str]
) -> None:
    np.savez(folder / "examples.npz", x=np.array([[1, 2], [13, 13]]))
    async with start(folder, Doubler()):
        await until(lambda: bool(failures))
    assert "the model fails on" in failures[0]
    assert "examples.npz" in failures[0]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((2, 3))}, "has shape [2, 3]"),
        ({"x": np.zeros((2, 2), complex)}, "must be FP32"),
        ({"z": np.zeros((2, 2))}, "no input 'z'"),
        ({"x": np.array([{}])}, "cannot be read"),
        ({"x": np.zeros((0, 2))}, "no row"),
    ],
    ids=["shape", "datatype", "name", "objects", "empty"],
)
def test_examples_that_are_not_the_models_inputs_are_refused(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "examples.npz", **arrays)
    with pytest.raises(ArtifactError) as error:
        list(examples.read(tmp_path, Doubler().inputs))
    assert words in str(error.value)
    assert "examples.npz" in str(error.value)


def test_examples_are_converted_to_the_datatypes_of_the_inputs(tmp_path: Path) -> None:
    specs = (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("text", "BYTES", (-1,)))
    np.savez(tmp_path / "examples.npz", x=np.arange(4.0).reshape(2, 2), text=np.array(["a", "é"]))
    (found,) = examples.read(tmp_path, specs)
    assert found.given
    assert found.rows["x"].dtype == np.float32
    assert found.rows["text"].tolist() == [b"a", "é".encode()]
