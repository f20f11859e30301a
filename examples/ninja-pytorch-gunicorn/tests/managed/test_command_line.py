"""The command line: what it writes, and how it ends."""

import json
import logging
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from managed.conftest import DESCRIBED, Call, Describe
from managed.support import Doubler, FakeRuntime
from service.core import manifest
from service.core.errors import InvalidTensors
from service.core.load import load
from service.core.tensors import Signature, Tensors, TensorSpec, Undescribed
from service.scaffold import report


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["--help"], {}, 0, "SERVICE_MAX_BODY_BYTES"),
        ([], {"SERVICE_PORT": "x"}, 2, "SERVICE_PORT: "),
        ([], {"SERVICE_MODEL_DIR": "nowhere"}, 1, "train.py"),
        ([], {"SERVICE_WORKRES": "2"}, 1, "did you mean SERVICE_WORKERS?"),
        (["manifest", "no-such-file", "--name", "a", "--version", "1"], {}, 1, "no-such-file"),
        (["manifest", ".", "--name", "a b", "--version", "1"], {}, 1, "128 letters"),
        (["manifest", ".", "--name", "a", "--version", "1", "--input", "x"], {}, 2, "SHAPE"),
        (["manifest", ".", "--name", "a", "--version", "1", "--parameter", "x"], {}, 2, "KEY=JSON"),
        (["no-such-command"], {}, 2, "no-such-command"),
    ],
)
def test_command_line(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    code: int,
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    returned, text = call(*arguments)
    assert (returned, words in text) == (code, True), text


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("::1", "[::1]"), ("::", "localhost")],  # noqa: S104
)
def test_the_start_says_where_the_documentation_is(
    start_command: Callable[..., None], caplog: pytest.LogCaptureFixture, host: str, address: str
) -> None:
    caplog.set_level(logging.INFO)
    start_command(host=host, port=8123, docs=False)
    start_command(host=host, port=8123)
    url = f"http://{address}:8123"
    assert caplog.messages == [
        f"starting at {url}",
        f"starting at {url}, documentation at {url}/docs",
    ]


def test_manifest_has_what_the_runtime_finds_unless_told_otherwise(
    call: Call, model: Doubler, tmp_path: Path
) -> None:
    artifact = tmp_path / "doubler.bin"
    artifact.write_bytes(b"twice")
    model.outputs = (TensorSpec("twice", "FP32", (-1, 2)),)
    model.signature = replace(DESCRIBED, parameters={"found": True, "known": False})
    code, text = call(
        *("manifest", str(artifact), "--name", "doubler", "--version", "1"),
        *("--output", "twice:fp32:-1,2", "--parameter", 'known={"a": [1]}'),
    )
    assert code == 0, text
    described = manifest.read(tmp_path)
    assert described.input_specs() == DESCRIBED.inputs
    assert described.output_specs() == (TensorSpec("twice", "FP32", (-1, 2)),)
    assert described.parameters == {"found": True, "known": {"a": [1]}}
    assert manifest.verify(described, tmp_path, "test") == artifact


X, Y = DESCRIBED.inputs[0], DESCRIBED.outputs[0]
TALL = TensorSpec("tall", "FP32", (-1,))


def test_programs_get_one_json_object(describe: Describe, call: Call, model: Doubler) -> None:
    run = model.run

    def chatty(batch: Tensors) -> Tensors:
        print("a library says hello")
        return run(batch)

    model.run = chatty  # type: ignore[method-assign]
    code, text, folder = describe(DESCRIBED, "--json")
    outcome = text[: text.rindex("}\n") + 2]
    assert text.removeprefix(outcome).startswith("a library says hello\n")
    told = json.loads(outcome)
    assert code == 0
    assert told["serve"].endswith("python -m service")
    assert told["serve"].startswith(f"SERVICE_MODEL_DIR={shlex.quote(str(folder))} ")
    assert (
        told.items()
        >= {
            "manifest": str(folder / "manifest.json"),
            "name": "doubler",
            "version": "1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "batched": True,
            "batch_reason": "",
            "remarks": [],
        }.items()
    )
    code, text = call("manifest", "gone.bin", "--name=a", "--version=1", "--json")
    assert (code, text) == (1, "service: gone.bin does not exist\n")


def test_what_libraries_print_is_kept_out_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    with report.prints_to_stderr(wanted=True):
        print("from Python")
        os.write(1, b"from C\n")
    print("{}")
    written, told = capfd.readouterr()
    assert written == "{}\n"
    assert sorted(told.splitlines()) == ["from C", "from Python"]


def test_batches_are_padded_on_request(describe: Describe) -> None:
    code, text, folder = describe(Signature((X,), (Y,), named=True), "--pad-batches")
    assert code == 0, text
    assert manifest.read(folder).pad_batches
    code, text, _ = describe(Signature((X,), (Y,), named=True), "--pad-batches", "--batch=never")
    assert (code, "there are no batches to pad" in text) == (1, True), text


@pytest.mark.parametrize("outputs", [("y",), ("y:fp32:-1,2",)])
def test_outputs_that_are_not_named_are_left_out(
    describe: Describe, outputs: tuple[str, ...]
) -> None:
    strange = Undescribed("output", "map", "a sequence of maps")
    signature = Signature((X,), (TALL, Y), named=True, undescribed=(strange,))
    code, text, folder = describe(signature, *(f"--output={name}" for name in outputs))
    assert code == 0, text
    assert manifest.read(folder).output_specs() == (Y,)


def test_descriptions_come_before_those_of_the_artifact(describe: Describe, model: Doubler) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, -1)),), (Y,), named=True)
    code, text, folder = describe(signature, "--input=x:FP32:-1,2")
    assert code == 0, text
    assert manifest.read(folder).input_specs() == (X,)


def test_scalars(describe: Describe, model: Doubler) -> None:
    scalar = TensorSpec("rate", "FP32", ())
    rate = Undescribed("input", "rate", "tensor(float) of shape []")
    signature = Signature((scalar,), (scalar,), named=True, undescribed=(rate,))
    model.outputs = (scalar,)
    model.run = lambda batch: batch  # type: ignore[method-assign]
    code, text, folder = describe(signature, "--input=rate:FP32:")
    assert code == 0, text
    assert manifest.read(folder).input_specs() == (scalar,)


@pytest.mark.parametrize(
    ("tensor", "options", "words"),
    [
        (Undescribed("input", "rate", "odd"), (), "'rate' is odd: describe it with --input rate:"),
        (Undescribed("input", "rate", "odd"), ("--output=y",), "describe it with --input rate:"),
        (
            Undescribed("output", "map", "odd"),
            (),
            "name the outputs to serve, such as --output tall",
        ),
        (Undescribed("output", "map", "odd"), ("--output=z:0",), "no output 'z:0'"),
        (Undescribed("output", "map", "odd"), ("--output=y:FP99:2",), "unknown datatype 'FP99'"),
        (Undescribed("output", "map", "odd"), ("--output=y", "--rename=z=a"), "no tensor 'z'"),
        (Undescribed("output", "map", "odd"), ("--output=y", "--rename=y"), "OLD=NEW"),
        (Undescribed("output", "map", "odd"), ("--output=y", "--rename=y="), "OLD=NEW"),
        (
            Undescribed("output", "map", "odd"),
            ("--rename=y=tall", "--output=y", "--output=tall"),
            "two t",
        ),
    ],
)
def test_tensors_that_are_not_clear_are_refused(
    describe: Describe, tensor: Undescribed, options: tuple[str, ...], words: str
) -> None:
    signature = Signature((X,), (TALL, Y), named=True, undescribed=(tensor,))
    code, text, _ = describe(signature, *options)
    assert code != 0
    assert words in text


def test_tensors_are_renamed_and_found_under_their_new_names(
    describe: Describe, model: Doubler
) -> None:
    code, text, folder = describe(
        Signature((X,), (Y,), named=True), "--rename=x=length", "--rename=y=boxes"
    )
    assert code == 0, text
    described = manifest.read(folder)
    assert [tensor.name for tensor in (*described.inputs, *described.outputs)] == [
        "length",
        "boxes",
    ]
    loaded = load(FakeRuntime(model), folder / "doubler.bin", described, threads=1, device="cpu")
    assert loaded.run({"length": np.ones((1, 2), np.float32)})["boxes"].tolist() == [[2, 2]]
    assert "  output boxes FP32 [-1, 2]" in text


def test_errors_of_renamed_inputs_have_the_new_name(describe: Describe, model: Doubler) -> None:
    _, _, folder = describe(Signature((X,), (Y,), named=True), "--rename=x=length")

    def refuse(batch: Tensors) -> Tensors:
        raise InvalidTensors("The input 'x' is too long.")

    model.run = refuse  # type: ignore[method-assign]
    described = manifest.read(folder)
    loaded = load(FakeRuntime(model), folder / "doubler.bin", described, threads=1, device="cpu")
    with pytest.raises(InvalidTensors, match="The input 'length' is too long"):
        loaded.run({"length": np.ones((1, 2), np.float32)})


def test_the_command_to_serve_survives_a_space(describe: Describe) -> None:
    code, text, folder = describe(Signature((X,), (Y,)))
    assert code == 0, text
    command = text.partition("Serve it: ")[2].splitlines()[0]
    assert f"SERVICE_MODEL_DIR={folder}" in shlex.split(command)


def test_artifacts_of_another_kind_are_not_described(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRuntime, "inspect", None)  # a runtime's own error would say less
    (tmp_path / "my models/doubler.bin").write_bytes(b"tree\nversion=v4\n")
    code, text, folder = describe(Signature((X,), (Y,)))
    assert (code, "is a LightGBM model" in text) == (1, True)
    assert not (folder / "manifest.json").exists()
