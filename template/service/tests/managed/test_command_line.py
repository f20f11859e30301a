"""The command line: what it writes, and how it ends."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import service
from managed.importing import Shell
from managed.support import Doubler, FakeRuntime
from service.core import manifest
from service.core.tensors import Signature, TensorSpec

DESCRIBED = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def model() -> Doubler:
    return Doubler(signature=DESCRIBED)


@pytest.fixture
def call(
    shell: Shell,
    model: Doubler,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Call the command line; returns its exit code and all it wrote."""
    monkeypatch.setattr(service, "runtime", FakeRuntime(model), raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["service", *arguments])
        try:
            code: int = shell.command_line.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        written = capsys.readouterr()
        return code, written.out + written.err

    return call


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
