"""An old service, brought into an emitted one as docs/adopt.md says, answers as before."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from inferplate.template.source import template_root
from inferplate_tools.service import Service

EXAMPLES = Path(__file__).parent / "adopt"
FRAMEWORKS = ["fastapi", "litestar", "ninja"]
PAGE = (template_root() / "docs/adopt.md").read_text(encoding="utf-8")
REQUESTS: list[tuple[str, Any]] = [
    ("/v1/currency", None),
    ("/v1/price", {"area": 95.5, "rooms": 3}),
    ("/v1/price", {"area": 20.0, "rooms": 1.0}),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_files_that_are_tested() -> None:
    shown = blocks("python")
    files = ["fastapi/old.py", "convert.py", *(f"{each}/routes.py" for each in FRAMEWORKS)]
    assert shown == [(EXAMPLES / name).read_text(encoding="utf-8") for name in files]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_old_requests_get_the_old_answers(framework: str, tmp_path: Path) -> None:
    for path in (*EXAMPLES.glob("*.py"), *(EXAMPLES / framework).glob("*.py")):
        shutil.copy(path, tmp_path)
    subprocess.run([sys.executable, "model.py"], cwd=tmp_path, check=True)
    with old_service(tmp_path) as port:
        before = [ask(port, *request) for request in REQUESTS]
    assert before[1] == (201 if framework == "litestar" else 200, {"price": 289500.0})
    project = follow(framework, tmp_path)
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_model.py"]
    subprocess.run(suite, cwd=project, env=environment(project), check=True)
    with Service(project, sys.executable, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        assert [ask(service.port, *request) for request in REQUESTS] == before
        answer = ask(service.port, "/predict", {"instances": [REQUESTS[1][1]]})
        assert answer[1]["predictions"][0]["prediction"] == pytest.approx(289500)


def follow(framework: str, folder: Path) -> Path:
    """Run the commands of the page but for the last, which serves; return the project."""
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert commands.pop() == ["uv", "run", "python", "-m", "service"]
    for words in commands:
        if words[0] == "cd":
            folder /= words[1]
            continue
        if words[0] == "inferplate":
            command = [sys.executable, "-m", *words]
            command[command.index("fastapi")] = framework
        elif words[0] == "uv":
            command = [sys.executable, *words[words.index("python") + 1 :]]
        else:
            command = words
        subprocess.run(command, cwd=folder, env=environment(folder), check=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    paths = [str(folder / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def old_service(folder: Path) -> Iterator[int]:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "uvicorn", "old:app", "--port", str(port)]
    with subprocess.Popen([*command, "--log-level", "warning"], cwd=folder) as running:
        try:
            until = time.monotonic() + 60
            while running.poll() is None and time.monotonic() < until:
                try:
                    ask(port, "/v1/currency", None)
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            yield port
        finally:
            running.terminate()


def ask(port: int, path: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.status, json.load(answer)
