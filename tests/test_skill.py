"""The skill for coding agents, and AGENTS.md of a service: done as they say, without a terminal."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import COVERING_VARIANTS, FURTHER_TASKS

from inferplate.template.source import template_root
from inferplate.template.variants import Variant
from inferplate_tools.service import free_port
from inferplate_tools.workbench import Workbench

SKILL = template_root() / "skills/inferplate/SKILL.md"
BIN = Path(sys.executable).parent
LONGEST = 40
"""Lines of AGENTS.md."""
ONNX = Variant("fastapi", "onnxruntime", "uvicorn")
UV = """#!/bin/sh
[ "$1" = run ] && shift
exec "$@"
"""
"""Runs what it is given, in the environment that is there."""
MODEL = """
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LinearRegression

rows = np.random.default_rng(0).uniform(0, 10, (50, 2)).astype(np.float32)
model = LinearRegression().fit(rows, rows @ [2, 3] + 1)
graph = to_onnx(model, initial_types=[("features", FloatTensorType([None, 2]))], target_opset=17)
open("model.onnx", "wb").write(graph.SerializeToString())
"""


def block(text: str) -> str:
    (found,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def follow(script: str, folder: Path, programs: Path) -> tuple[int, str, str]:
    """Run a script without a terminal, and end what it has started; its port alone is another."""
    programs.mkdir()
    (programs / "uv").write_text(UV, encoding="utf-8")
    (programs / "uv").chmod(0o755)
    port = free_port()
    environment = {
        "GIT_AUTHOR_EMAIL": "agent@example.org",
        "GIT_AUTHOR_NAME": "An Agent",
        "GIT_COMMITTER_EMAIL": "agent@example.org",
        "GIT_COMMITTER_NAME": "An Agent",
        "HOME": str(programs),
        "PATH": os.pathsep.join([str(programs), str(BIN), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(["src", str(template_root() / "src")]),
        "SERVICE_PORT": str(port),
        "SERVICE_THREADS": "1",
    }
    with subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", script.replace(":8000", f":{port}")],  # noqa: S607
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, told = shell.communicate(timeout=180)
        finally:
            if shell.poll() is None or shell.returncode:
                end_session(shell.pid)
    return shell.returncode, printed, told


def end_session(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


def documents(printed: str) -> list[dict[str, Any]]:
    """Return the JSON documents that were printed, one behind the other, but the lines of a log."""
    found, decoder, rest = [], json.JSONDecoder(), printed.lstrip()
    while rest.startswith("{"):
        document, end = decoder.raw_decode(rest)
        if "timestamp" not in document:
            found.append(document)
        rest = rest[end:].lstrip()
    return found


@pytest.mark.slow
def test_the_skill_leads_from_a_model_file_to_a_prediction(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", MODEL], cwd=tmp_path, check=True)
    script = block(SKILL.read_text(encoding="utf-8"))
    code, printed, told = follow(script, tmp_path, tmp_path / "programs")
    assert code == 0, printed + told
    made, described, *ready, answered = documents(printed)
    assert made["answers"]["runtime"] == "onnxruntime"
    assert described["manifest"] == "models/manifest.json"
    assert described["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}]
    assert ready == [{"live": True, "ready": True}]
    assert answered["model"] == {"name": "my-model", "version": "1"}
    golden = json.loads((tmp_path / "my-service/tests/golden.json").read_bytes())
    expected = [each["prediction"] for each in golden]
    assert len(answered["predictions"]) == len(expected)
    for answer, known in zip(answered["predictions"], expected, strict=True):
        assert answer == {key: pytest.approx(value, rel=1e-3) for key, value in known.items()}


def test_the_skill_says_what_it_is_for() -> None:
    _, head, text = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    front = yaml.safe_load(head)
    assert front.keys() == {"name", "description"}
    assert front["name"] == SKILL.parent.name
    assert len(front["description"]) <= 1024
    for line in block(text).splitlines():
        words = shlex.split(line.rstrip("\\"))
        if "manifest" in words or words[:1] == ["inferplate"]:
            assert "--json" in words
    commands = re.findall(r"`inferplate (\w+)[^`]*--json`", text)
    assert {*commands} == {"variants", "update", "status"}


@pytest.mark.parametrize("wrong", ["manifest", "new"])
def test_errors_are_one_line_on_stderr_and_nothing_on_stdout(
    wrong: str, bench: Workbench, tmp_path: Path
) -> None:
    command, where = {
        "manifest": ("python -m service manifest gone.onnx --name a --version 1 --json", ONNX),
        "new": ("inferplate new a --runtime onnx --json", None),
    }[wrong]
    folder = bench.project(where) if where else tmp_path
    code, printed, told = follow(command, folder, tmp_path / "programs")
    assert (code, printed) == (1, "")
    assert len(told.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("told", [ONNX, Variant("ninja", "onnxruntime", "uvicorn", "none")])
def test_what_agents_md_says_is_so(
    told: Variant, copy_of: Callable[[Variant], Path], tmp_path: Path
) -> None:
    project = copy_of(told)
    text = (project / "AGENTS.md").read_text(encoding="utf-8")
    script = block(text)
    kept = json.loads((project / "models/manifest.json").read_bytes())["file"]
    (artifact,) = re.findall(r"manifest (models/\S+)", script)
    if artifact.removeprefix("models/") != kept:
        (project / "models" / kept).rename(project / artifact)
    ready = "curl --silent --fail --retry 60 --retry-delay 1 --retry-connrefused"
    served = "uv run python -m service  # then ask it:\n"
    assert script.count(served) == 1
    waiting = f"uv run python -m service &\n{ready} http://127.0.0.1:8000/v2/health/ready\n"
    script = script.replace(served, waiting).replace("curl http", "curl --silent --fail http")
    code, printed, told_too = follow(f"{script}\nkill $!\n", project, tmp_path / "programs")
    assert code == 0, printed + told_too
    answer = documents(printed)[-1]
    assert ("predictions" in answer) == (told.task != "none")
    assert ("inputs" in answer) == (told.task == "none")


@pytest.mark.parametrize(
    "told", [*COVERING_VARIANTS, *(each for row in FURTHER_TASKS.values() for each in row)], ids=str
)
def test_agents_md_is_short_and_names_what_is_there(told: Variant, bench: Workbench) -> None:
    project = bench.project(told)
    text = (project / "AGENTS.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    for name in re.findall(r"`((?:src|tests)/[\w/.]+)`", text):
        assert (project / name).exists(), name
    for folder in ("core", "web", "ops"):
        assert f"`{folder}/`" in text
        assert (project / "src/service" / folder).is_dir()
    makefile = (project / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`", text):
        assert f"\n{target}:" in makefile
    assert ("`src/service/runtime.py`" in text) == (told.runtime == "python")
    assert ("/predict" in text) == (told.task != "none")
